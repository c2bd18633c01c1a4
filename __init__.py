"""Reinforcement-learning algorithms in pure JAX.

A whole training run, environment included, is one compiled program. Three layers that can be used
apart:

* `onejit.losses`: loss functions over arrays.
* `onejit.envs`: environments that run on the accelerator, behind one functional contract.
* `onejit.algos`: update steps and training loops built on the two.
"""

__version__ = "0.2.0"
