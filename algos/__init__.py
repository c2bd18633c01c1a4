"""Update steps and training loops: one module per algorithm, `train` for a whole run."""

from . import ppo
from .base import Algorithm
from .evaluation import evaluate, evaluator
from .training import train

__all__ = ["Algorithm", "evaluate", "evaluator", "ppo", "train"]
