"""Sample calls of losses/curricula.py."""

import jax
import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def uniform(rng, low, high, *shape):
    return jnp.asarray(rng.uniform(low, high, size=shape), jnp.float32)


def flags(rng, *shape):
    return jnp.asarray(rng.random(shape) < 0.5)


def integers(rng, low, high, *shape):
    return jnp.asarray(rng.integers(low, high, size=shape), jnp.int32)


CALLS = {
    "curricula.allocate_rollouts": lambda rng: (
        (uniform(rng, 0.0, 1.0, 3, 4),),
        {},
        {"budget": 19, "low": 2, "high": 7},
    ),
    "curricula.beta_update": lambda rng: (
        tuple(uniform(rng, 1.0, 8.0, 5, 3) for _ in range(4)),
        {"decay": 0.5, "prior_alpha": 1.0, "prior_beta": 2.0},
        {},
    ),
    "curricula.cosine_ramp": lambda rng: ((integers(rng, 0, 300, 5, 3),), {"steps": 200.0}, {}),
    "curricula.curriculum_update": lambda rng: (
        (normal(rng, 5, 3), uniform(rng, 0.0, 1.0, 5, 3), flags(rng, 5, 3)),
        {"step_size": 0.1},
        {},
    ),
    "curricula.dead_groups": lambda rng: ((normal(rng, 5, 4),), {"threshold": 1.0}, {}),
    "curricula.linear_schedule": lambda rng: (
        (uniform(rng, 0.0, 1.0, 5, 3),),
        {"start": 64.0, "end": 0.5},
        {},
    ),
    "curricula.prompt_informativeness": lambda rng: ((uniform(rng, 0.0, 1.0, 5, 3),), {}, {}),
    "curricula.replacement_prompts": lambda rng: (
        (flags(rng, 5), uniform(rng, 0.0, 1.0, 7)),
        {},
        {"key": jax.random.key(0)},
    ),
    "curricula.rollout_value": lambda rng: (
        (integers(rng, 1, 9, 5, 3), uniform(rng, 0.0, 1.0, 5, 3)),
        {},
        {},
    ),
    "curricula.thompson_success": lambda rng: (
        (uniform(rng, 1.0, 8.0, 5, 3), uniform(rng, 1.0, 8.0, 5, 3)),
        {},
        {"key": jax.random.key(0)},
    ),
    "curricula.top_prompts": lambda rng: ((normal(rng, 5, 4),), {}, {"num": 2}),
}
