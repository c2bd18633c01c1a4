"""Trains on-policy MDPO: `python scripts/mdpo.py --env=brax/halfcheetah`; `--help` explains every flag."""

from onejit.algos import cli, mdpo

if __name__ == "__main__":
    cli.main(mdpo)
