"""Trains HARPG: `python scripts/harpg.py --env=gymnax/CartPole-v1`; `--help` explains every
flag.
"""

from onejit.algos import harpg
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(harpg)
