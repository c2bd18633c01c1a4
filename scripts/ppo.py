"""Trains PPO: `python scripts/ppo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import cli, ppo

if __name__ == "__main__":
    cli.main(ppo)
