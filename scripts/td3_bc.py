"""Trains TD3+BC on data: `python scripts/td3_bc.py --data=FILE`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import td3_bc
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(td3_bc)
