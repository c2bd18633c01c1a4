"""Trains CrossQ: `python scripts/crossq.py --env=gymnax/Pendulum-v1`; `--help` explains every
flag.
"""

from onejit.algos import crossq
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(crossq)
