"""Trains EXPO: `python scripts/expo.py --data=FILE --data_share=0.5`; `--help` explains every flag.

scripts/dataset.py makes such a file.
"""

from onejit.algos import expo
from onejit.algos.host import cli

if __name__ == "__main__":
    cli.main(expo)
