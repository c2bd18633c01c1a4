"""Trains a flow that clones data: `python scripts/flow_bc.py --data=FILE`; `--help` explains every
flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import flow_bc
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(flow_bc)
