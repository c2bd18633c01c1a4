"""Sample calls of losses/sequences/surrogates."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def per_token(**hyperparameters):
    """A log-ratio or log-probability and an advantage, one a token."""
    return lambda rng: ((normal(rng, 3, 5), normal(rng, 3, 5)), hyperparameters, {})


CALLS = {
    "sequences.surrogates.asymmetric_surrogate": per_token(clip_low=0.2, clip_high=0.2, cap=3.0),
    "sequences.surrogates.clip_surrogate": per_token(low=0.8, high=1.28, dual_clip=3.0),
    "sequences.surrogates.clipped_log_ratio_loss": per_token(clip_low=0.2, clip_high=0.2),
    "sequences.surrogates.geometric_mean_surrogate": lambda rng: (
        (normal(rng, 2, 3, 5), normal(rng, 2, 3), jnp.asarray(rng.random((2, 3, 5)) < 0.7)),
        {"clip_low": 0.4, "clip_high": 0.4},
        {},
    ),
    "sequences.surrogates.haepo_loss": per_token(entropy_coef=0.01),
    "sequences.surrogates.policy_gradient_loss": per_token(),
    "sequences.surrogates.ratio_variance_loss": per_token(coef=0.04),
    "sequences.surrogates.rec_mask": lambda rng: (
        (normal(rng, 3, 5), normal(rng, 3, 5)),
        {"clip_low": 0.2, "clip_high": 0.2, "outer_low": 0.6, "outer_high": 2.0},
        {"mode": "ring"},
    ),
    "sequences.surrogates.soft_upper_clip": per_token(low=0.8, high=1.28, dual_clip=3.0),
    "sequences.surrogates.truncated_importance_loss": lambda rng: (
        (normal(rng, 3, 5), normal(rng, 3, 5), normal(rng, 3, 5)),
        {"cap": 2.0},
        {},
    ),
}
