"""Trains PRDC on data: `python scripts/prdc.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import prdc
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(prdc)
