"""Trains TRPO: `python scripts/trpo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import trpo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(trpo)
