"""Trains a policy of tokens: `python scripts/tokens.py --objective=grpo`; `--help` explains every
flag.
"""

from onejit.algos import tokens
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(tokens)
