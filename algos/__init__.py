"""Update steps and training loops: one module per algorithm, `train` for a whole run."""

from . import (
    aq_sac,
    aq_td3,
    fast_sac,
    fast_td3,
    fixpo,
    harpg,
    hnpg,
    mdpo,
    mdpo_off_policy,
    npg_igt,
    parameter_steps,
    pathwise,
    ppo,
    ppo_ewma,
    r2vpo,
    sac,
    smoothing,
    spo,
    staq,
    td3,
    tokens,
    trpo,
)
from .core import population
from .core.algorithm import Algorithm
from .core.evaluation import evaluate, evaluator
from .core.guard import describe as describe_fault
from .core.heads import ActionHead
from .core.nnx_networks import NnxNetwork
from .core.population import draw, grid
from .core.recurrent import Recurrent, Sequence
from .core.sweep import static_combinations, sweep
from .core.training import train

__all__ = [
    "ActionHead",
    "Algorithm",
    "NnxNetwork",
    "Recurrent",
    "Sequence",
    "aq_sac",
    "aq_td3",
    "describe_fault",
    "draw",
    "evaluate",
    "evaluator",
    "fast_sac",
    "fast_td3",
    "fixpo",
    "grid",
    "harpg",
    "hnpg",
    "mdpo",
    "mdpo_off_policy",
    "npg_igt",
    "parameter_steps",
    "pathwise",
    "population",
    "ppo",
    "ppo_ewma",
    "r2vpo",
    "sac",
    "smoothing",
    "spo",
    "static_combinations",
    "staq",
    "sweep",
    "td3",
    "tokens",
    "train",
    "trpo",
]
