"""Trains StaQ: `python scripts/staq.py --env=gymnax/CartPole-v1`; `--help` explains every flag."""

from onejit.algos import staq
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(staq)
