"""Trains annealed Q-learning on SAC: `python scripts/aq_sac.py --env=gymnax/Pendulum-v1`; `--help`
explains every flag.
"""

from onejit.algos import aq_sac
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(aq_sac)
