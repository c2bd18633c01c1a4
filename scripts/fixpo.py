"""Trains FixPO: `python scripts/fixpo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import fixpo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(fixpo)
