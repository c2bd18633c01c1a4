"""Makes a data set to learn from: `python scripts/dataset.py --from=runs/FOLDER --save=data/NAME`;
`--help` explains every flag.
"""

from onejit.algos.host.commands import dataset

if __name__ == "__main__":
    dataset.main()
