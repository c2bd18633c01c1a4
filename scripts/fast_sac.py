"""Trains FastSAC: `python scripts/fast_sac.py --env=gymnax/Pendulum-v1`; `--help` explains every
flag.
"""

from onejit.algos import fast_sac
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(fast_sac)
