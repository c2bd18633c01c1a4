"""Losses for pairs and for K candidates that were compared or scored; implicit rewards.

A response enters by its log-probability, summed over its tokens: `log_ratio` is log π − log π_ref
of it, `margin` that of the better response of a pair less that of the worse. Candidates of one
prompt are the last axis. Rewards, labels and the reference are data, without gradient.
comparisons.py has losses of which is better, regressions.py those that regress a log-ratio to what
the optimum says of it, implicit.py the log-ratio as a reward.
"""

from .comparisons import (
    dpo_loss,
    exo_loss,
    exo_pair_loss,
    ipo_loss,
    p3o_loss,
)
from .implicit import (
    differential_information,
    outcome_cross_entropy,
    pacs_loss,
    rejected_log_prob,
    success_pair_loss,
)
from .regressions import (
    copg_loss,
    optimal_advantage_loss,
    optimal_value,
    sppo_loss,
)

__all__ = [
    "copg_loss",
    "differential_information",
    "dpo_loss",
    "exo_loss",
    "exo_pair_loss",
    "ipo_loss",
    "optimal_advantage_loss",
    "optimal_value",
    "outcome_cross_entropy",
    "p3o_loss",
    "pacs_loss",
    "rejected_log_prob",
    "sppo_loss",
    "success_pair_loss",
]
