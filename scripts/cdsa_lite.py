"""Trains CDSA-lite on data: `python scripts/cdsa_lite.py --data=FILE`; `--help` explains every
flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import cdsa_lite
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(cdsa_lite)
