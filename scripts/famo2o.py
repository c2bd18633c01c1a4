"""Trains FamO2O on data: `python scripts/famo2o.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import famo2o
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(famo2o)
