"""Trains StaQ: `python scripts/staq.py --env=gymnax/CartPole-v1`; `--help` explains every flag."""

from onejit.algos import cli, staq

if __name__ == "__main__":
    cli.main(staq)
