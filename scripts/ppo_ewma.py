"""Trains PPO-EWMA: `python scripts/ppo_ewma.py --env=brax/halfcheetah`; `--help` explains every
flag.
"""

from onejit.algos import ppo_ewma
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(ppo_ewma)
