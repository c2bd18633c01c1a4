"""Trains on-policy MDPO: `python scripts/mdpo.py --env=brax/halfcheetah`; `--help` explains every
flag.
"""

from onejit.algos import mdpo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(mdpo)
