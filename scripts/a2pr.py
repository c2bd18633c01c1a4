"""Trains A2PR on data: `python scripts/a2pr.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import a2pr
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(a2pr)
