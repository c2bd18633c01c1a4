"""Trains HNPG: `python scripts/hnpg.py --env=probe/lock`; `--help` explains every flag."""

from onejit.algos import hnpg
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(hnpg)
