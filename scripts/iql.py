"""Trains IQL on data: `python scripts/iql.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import iql
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(iql)
