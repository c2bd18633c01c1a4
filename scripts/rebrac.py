"""Trains ReBRAC on data: `python scripts/rebrac.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import rebrac
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(rebrac)
