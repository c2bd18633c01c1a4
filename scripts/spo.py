"""Trains SPO: `python scripts/spo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import spo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(spo)
