"""Trains AVG: `python scripts/avg.py --env=gymnax/Pendulum-v1`; `--help` explains every flag."""

from onejit.algos import avg
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(avg)
