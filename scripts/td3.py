"""Trains TD3: `python scripts/td3.py --env=gymnax/Pendulum-v1`; `--help` explains every flag."""

from onejit.algos import td3
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(td3)
