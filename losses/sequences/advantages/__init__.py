"""Advantages: what the rewards of a group say about each of its sequences, turns or tokens.

An advantage is data: none lets a gradient through. One idea a module: groups.py, a sequence against
its group or its batch; baselines.py, against a number of the paper's own; history.py, against
earlier groups; steps.py, of turns, ranks and tokens; process.py, from rewards of every step;
tree.py, of sequences that share prefixes.
"""

from .baselines import (
    anchored_advantage,
    asymmetric_advantage,
    gradient_weighted_baseline,
    opmd_advantage,
    semantic_entropy,
    signed_advantage,
)
from .groups import (
    best_minus_second,
    beta_normalize,
    group_center,
    group_normalize,
    leave_one_out,
    segment_normalize,
    token_weighted_normalize,
    whitened_group_center,
)
from .history import cumulative_normalize, sil_advantage
from .process import implicit_process_rewards, process_advantage, step_advantage, step_rewards
from .steps import (
    egae,
    entropy_modulated_advantage,
    entropy_scaled_advantage,
    rank_returns,
    turn_normalize,
    turn_returns,
)
from .tree import tree_advantage, tree_baseline

__all__ = [
    "anchored_advantage",
    "asymmetric_advantage",
    "best_minus_second",
    "beta_normalize",
    "cumulative_normalize",
    "egae",
    "entropy_modulated_advantage",
    "entropy_scaled_advantage",
    "gradient_weighted_baseline",
    "group_center",
    "group_normalize",
    "implicit_process_rewards",
    "leave_one_out",
    "opmd_advantage",
    "process_advantage",
    "rank_returns",
    "segment_normalize",
    "semantic_entropy",
    "signed_advantage",
    "sil_advantage",
    "step_advantage",
    "step_rewards",
    "token_weighted_normalize",
    "tree_advantage",
    "tree_baseline",
    "turn_normalize",
    "turn_returns",
    "whitened_group_center",
]
