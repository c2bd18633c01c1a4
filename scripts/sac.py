"""Trains SAC: `python scripts/sac.py --env=gymnax/Pendulum-v1`; `--help` explains every flag."""

from onejit.algos import sac
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(sac)
