"""Trains a policy by pathwise gradients: `python scripts/pathwise.py --env=inventory/store`;
`--help` explains every flag.
"""

from onejit.algos import pathwise
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(pathwise)
