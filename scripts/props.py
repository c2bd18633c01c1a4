"""Trains PROPS: `python scripts/props.py --env=gymnax/Acrobot-v1`; `--help` explains every flag."""

from onejit.algos import props
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(props)
