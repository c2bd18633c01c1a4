"""Sample calls of losses/sequences/weights.py."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def integers(rng, high, *shape):
    return jnp.asarray(rng.integers(high, size=shape), jnp.int32)


def mask(rng, *shape):
    return jnp.asarray(rng.random(shape) < 0.7)


CALLS = {
    "sequences.weights.conflict_weights": lambda rng: (
        (integers(rng, 2, 5, 3, 4), normal(rng, 5, 3), mask(rng, 5, 3, 4)),
        {},
        {},
    ),
    "sequences.weights.curvature_shifts": lambda rng: (
        (
            normal(rng, 5, 3, 2),
            normal(rng, 5, 3, 4),
            integers(rng, 4, 5, 3),
            normal(rng, 5, 3),
            0.1 * normal(rng, 5, 3, 4, 2),
        ),
        {},
        {},
    ),
    "sequences.weights.dependency": lambda rng: ((normal(rng, 5, 3), normal(rng, 5, 3)), {}, {}),
    "sequences.weights.duration_weights": lambda rng: (
        (jnp.abs(normal(rng, 5, 3)), mask(rng, 5, 3)),
        {},
        {},
    ),
    "sequences.weights.entropy_advantage_weights": lambda rng: (
        (normal(rng, 5, 4), normal(rng, 5, 4)),
        {"alpha": 0.2, "temperature": 0.7},
        {},
    ),
    "sequences.weights.trajectory_weight": lambda rng: (
        (jnp.abs(normal(rng, 5, 3)), mask(rng, 5, 3)),
        {"floor": 0.9},
        {},
    ),
}
