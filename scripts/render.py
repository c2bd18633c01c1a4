"""Draws an episode of a trained policy: `python scripts/render.py RUN_FOLDER`; `--help` explains
every flag.
"""

from onejit.algos.host.commands import render

if __name__ == "__main__":
    render.main()
