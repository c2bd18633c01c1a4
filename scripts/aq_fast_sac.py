"""Trains annealed Q-learning on FastSAC: `python scripts/aq_fast_sac.py --env=gymnax/Pendulum-v1`;
`--help` explains every flag.
"""

from onejit.algos import aq_fast_sac
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(aq_fast_sac)
