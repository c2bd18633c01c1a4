"""Trains FastTD3: `python scripts/fast_td3.py --env=gymnax/Pendulum-v1`; `--help` explains every
flag.
"""

from onejit.algos import fast_td3
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(fast_td3)
