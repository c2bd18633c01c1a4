"""Exports a trained policy: `python scripts/export.py RUN_FOLDER`; `--help` explains every flag."""

from onejit.algos.host.commands import export

if __name__ == "__main__":
    export.main()
