"""Sample calls of losses/sequences/masks.py."""

import jax
import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def mask(rng, *shape):
    return jnp.asarray(rng.random(shape) < 0.7)


CALLS = {
    "sequences.masks.advantage_log_prob_covariance": lambda rng: (
        (normal(rng, 5, 3), normal(rng, 5, 3), mask(rng, 5, 3)),
        {},
        {},
    ),
    "sequences.masks.covariance_clip_mask": lambda rng: (
        (normal(rng, 5, 3), mask(rng, 5, 3)),
        {"low": 0.1, "high": 4.0, "fraction": 0.3},
        {"key": jax.random.key(0)},
    ),
    "sequences.masks.entropy_above": lambda rng: (
        (normal(rng, 5, 3), mask(rng, 5, 3), normal(rng)),
        {},
        {},
    ),
    "sequences.masks.max_variance_subset": lambda rng: ((normal(rng, 5, 3),), {}, {"num": 6}),
    "sequences.masks.second_moment_mask": lambda rng: (
        (0.3 * normal(rng, 5, 3), normal(rng, 5, 3), mask(rng, 5, 3)),
        {"threshold": 0.04},
        {},
    ),
    "sequences.masks.spread_mask": lambda rng: ((normal(rng, 5, 4),), {"threshold": 1.0}, {}),
    "sequences.masks.top_advantage_mask": lambda rng: ((normal(rng, 5, 4),), {}, {"num": 2}),
    "sequences.masks.top_entropy_mask": lambda rng: (
        (normal(rng, 5, 3), mask(rng, 5, 3)),
        {"keep": 0.4},
        {},
    ),
    "sequences.masks.top_fraction_mask": lambda rng: (
        (normal(rng, 5, 3), mask(rng, 5, 3)),
        {"keep": 0.4},
        {},
    ),
    "sequences.masks.void_turn_mask": lambda rng: ((mask(rng, 5, 3), mask(rng, 5, 3)), {}, {}),
}
