"""Sample calls of losses/bandits.py."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


CALLS = {
    "bandits.ftrl_policy": lambda rng: (
        (3.0 * normal(rng, 5, 4),),
        {"eta": 0.5},
        {"regularizer": "tsallis"},
    ),
    "bandits.inverse_gap_weighting": lambda rng: ((normal(rng, 5, 4),), {"gamma": 10.0}, {}),
    "bandits.value_steering": lambda rng: ((normal(rng, 5, 4),), {"temperature": 0.5}, {}),
}
