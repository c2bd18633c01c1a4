"""Trains PPO: `python scripts/ppo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import ppo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(ppo)
