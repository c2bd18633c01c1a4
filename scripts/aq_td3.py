"""Trains annealed Q-learning on TD3: `python scripts/aq_td3.py --env=gymnax/Pendulum-v1`; `--help`
explains every flag.
"""

from onejit.algos import aq_td3
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(aq_td3)
