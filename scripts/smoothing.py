"""Trains smoothed policies, certifies and attacks them: `python scripts/smoothing.py
--experiment=cartpole`; `--help` explains every flag.
"""

from onejit.algos.host.commands import certify

if __name__ == "__main__":
    certify.main()
