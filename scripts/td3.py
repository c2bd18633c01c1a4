"""Trains TD3: `python scripts/td3.py --env=gymnax/Pendulum-v1`; `--help` explains every flag."""

from onejit.algos import cli, td3

if __name__ == "__main__":
    cli.main(td3, default_env="gymnax/Pendulum-v1")
