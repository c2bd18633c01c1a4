"""Update steps and training loops: one module per algorithm, `train` for a whole run."""

from . import (
    a2pr,
    aq_sac,
    aq_td3,
    avg,
    bc,
    famo2o,
    fast_sac,
    fast_td3,
    fixpo,
    flow_bc,
    harpg,
    hnpg,
    iql,
    mdpo,
    mdpo_off_policy,
    npg_igt,
    parameter_steps,
    pathwise,
    ppo,
    ppo_ewma,
    prdc,
    props,
    r2vpo,
    rebrac,
    sac,
    smoothing,
    spo,
    staq,
    td3,
    td3_bc,
    tokens,
    trpo,
)
from .core import dataset, population
from .core.algorithm import Algorithm
from .core.averaging import averaged
from .core.dataset import Dataset, DatasetError
from .core.distribution import distribute, make_mesh
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
    "Dataset",
    "DatasetError",
    "NnxNetwork",
    "Recurrent",
    "Sequence",
    "a2pr",
    "aq_sac",
    "aq_td3",
    "averaged",
    "avg",
    "bc",
    "dataset",
    "describe_fault",
    "distribute",
    "draw",
    "evaluate",
    "evaluator",
    "famo2o",
    "fast_sac",
    "fast_td3",
    "fixpo",
    "flow_bc",
    "grid",
    "harpg",
    "hnpg",
    "iql",
    "make_mesh",
    "mdpo",
    "mdpo_off_policy",
    "npg_igt",
    "parameter_steps",
    "pathwise",
    "population",
    "ppo",
    "ppo_ewma",
    "prdc",
    "props",
    "r2vpo",
    "rebrac",
    "sac",
    "smoothing",
    "spo",
    "staq",
    "static_combinations",
    "sweep",
    "td3",
    "td3_bc",
    "tokens",
    "train",
    "trpo",
]
