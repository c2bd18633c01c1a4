"""Trains off-policy MDPO: `python scripts/mdpo_off_policy.py`; `--help` explains every flag."""

from onejit.algos import mdpo_off_policy
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(mdpo_off_policy)
