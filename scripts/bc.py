"""Trains a clone of data: `python scripts/bc.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import bc
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(bc)
