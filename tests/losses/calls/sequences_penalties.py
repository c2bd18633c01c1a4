"""Sample calls of losses/sequences/penalties.py."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def uniform(rng, *shape):
    return jnp.asarray(rng.uniform(size=shape), jnp.float32)


def two_policies(rng):
    return (normal(rng, 3, 5), normal(rng, 3, 5)), {}, {}


CALLS = {
    "sequences.penalties.kl_k1": two_policies,
    "sequences.penalties.kl_k2": two_policies,
    "sequences.penalties.kl_k3": two_policies,
    "sequences.penalties.policy_drift": lambda rng: ((normal(rng, 3, 5),), {"cap": 0.2}, {}),
    "sequences.penalties.dual_step": lambda rng: (
        (uniform(rng, 2, 3), uniform(rng, 2, 3)),
        {"target": 0.04, "step_size": 0.1},
        {},
    ),
    "sequences.penalties.entropy_band_penalty": lambda rng: (
        (uniform(rng, 3, 5), uniform(rng)),
        {"low": 0.8, "high": 1.2, "penalty": 0.1},
        {},
    ),
    "sequences.penalties.entropy_phase_weight": lambda rng: ((uniform(rng, 4),), {}, {}),
}
