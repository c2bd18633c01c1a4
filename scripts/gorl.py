"""Trains GoRL: `python scripts/gorl.py --env=gymnax/Pendulum-v1`; `--help` explains every flag."""

from onejit.algos import gorl
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(gorl)
