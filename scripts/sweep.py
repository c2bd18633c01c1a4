"""Trains settings × seeds in one program: `python scripts/sweep.py --algorithm=ppo
--env=gymnax/CartPole-v1 --grid learning_rate=1e-4,3e-4,1e-3 --grid clip_eps=0.1,0.2`; `--help`
explains every flag.
"""

from onejit.algos.host import sweep_cli

if __name__ == "__main__":
    sweep_cli.main()
