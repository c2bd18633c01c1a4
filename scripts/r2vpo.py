"""Trains R²VPO: `python scripts/r2vpo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import r2vpo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(r2vpo)
