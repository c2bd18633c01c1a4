"""Surrogates: log-ratio or log-probability and advantage, to a loss per token or sequence.

Losses to minimise, differentiated by log_ratio or log_prob alone. `advantage` is data: one a token,
or `advantage[..., None]` where it is one a sequence. Bounds may be arrays, one a token. clipped.py
has those with bounds of the ratio, unclipped.py the others.
"""

from .clipped import (
    asymmetric_surrogate,
    clip_surrogate,
    clipped_log_ratio_loss,
    geometric_mean_surrogate,
    soft_upper_clip,
)
from .unclipped import (
    haepo_loss,
    policy_gradient_loss,
    ratio_variance_loss,
    rec_mask,
    truncated_importance_loss,
)

__all__ = [
    "asymmetric_surrogate",
    "clip_surrogate",
    "clipped_log_ratio_loss",
    "geometric_mean_surrogate",
    "haepo_loss",
    "policy_gradient_loss",
    "ratio_variance_loss",
    "rec_mask",
    "soft_upper_clip",
    "truncated_importance_loss",
]
