"""Trains N-PG-IGT: `python scripts/npg_igt.py --env=gymnax/CartPole-v1`; `--help` explains every
flag.
"""

from onejit.algos import npg_igt
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(npg_igt)
