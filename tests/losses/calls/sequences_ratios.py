"""Sample calls of losses/sequences/ratios.py."""

import jax.numpy as jnp
import numpy as np


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def uniform(rng, *shape):
    return jnp.asarray(rng.uniform(0.05, 1.0, size=shape), jnp.float32)


def mask(rng, *shape):
    return jnp.asarray(np.arange(shape[-1]) < rng.integers(1, shape[-1] + 1, (*shape[:-1], 1)))


CALLS = {
    "sequences.ratios.sequence_log_ratio": lambda rng: (
        (normal(rng, 2, 3, 5), normal(rng, 2, 3, 5), mask(rng, 2, 3, 5)),
        {},
        {},
    ),
    "sequences.ratios.item_log_ratio": lambda rng: (
        (normal(rng, 3, 5), jnp.asarray(rng.integers(-1, 4, (3, 5)), jnp.int32)),
        {},
        {"num_items": 4},
    ),
    "sequences.ratios.dynamic_clip_bounds": lambda rng: (
        (uniform(rng, 3, 5),),
        {"low": 0.16, "high": 0.2, "cap": 10.0},
        {},
    ),
    "sequences.ratios.balanced_clip_bounds": lambda rng: (
        (2.0 * uniform(rng, 3, 5), normal(rng, 3, 5), mask(rng, 3, 5)),
        {"low": 0.6, "high": 1.2, "low_max": 0.9, "high_max": 3.0, "step": 0.05, "target": 1.0},
        {},
    ),
    "sequences.ratios.entropy_score": lambda rng: (
        (uniform(rng, 3, 5), mask(rng, 3, 5)),
        {"q": 0.8},
        {},
    ),
    "sequences.ratios.entropy_clip_bounds": lambda rng: (
        (2.0 * uniform(rng, 3, 5) - 1.0,),
        {"low": 0.2, "high": 0.28, "alpha": 1.0},
        {},
    ),
}
