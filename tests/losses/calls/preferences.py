"""Sample calls of losses/preferences."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def flags(rng, *shape):
    return jnp.asarray(rng.integers(2, size=shape), jnp.int32)


CALLS = {
    "preferences.copg_loss": lambda rng: ([*normal(rng, 3, 5, 4)], {"beta": 0.5}, {}),
    "preferences.differential_information": lambda rng: ([*normal(rng, 2, 5, 4)], {}, {}),
    "preferences.dpo_loss": lambda rng: (
        [normal(rng, 5, 3)],
        {"beta": 0.1, "label_smoothing": 0.2},
        {},
    ),
    "preferences.exo_loss": lambda rng: (
        [*normal(rng, 2, 5, 4)],
        {"beta": 0.5, "reward_beta": 0.7},
        {},
    ),
    "preferences.exo_pair_loss": lambda rng: (
        [normal(rng, 5, 3)],
        {"beta": 0.1, "label_smoothing": 1e-3},
        {},
    ),
    "preferences.ipo_loss": lambda rng: ([normal(rng, 5, 3)], {"beta": 0.1}, {}),
    "preferences.optimal_advantage_loss": lambda rng: ([*normal(rng, 3, 5, 4)], {"beta": 0.2}, {}),
    "preferences.optimal_value": lambda rng: ([normal(rng, 5, 8)], {"beta": 0.5}, {}),
    "preferences.outcome_cross_entropy": lambda rng: (
        [normal(rng, 5, 3), flags(rng, 5, 3)],
        {"beta": 0.05},
        {},
    ),
    "preferences.p3o_loss": lambda rng: (
        [*normal(rng, 2, 5, 2)],
        {"clip_eps": 0.2},
        {"joint": True},
    ),
    "preferences.pacs_loss": lambda rng: ([normal(rng, 5, 4), flags(rng, 5, 4)], {}, {}),
    "preferences.rejected_log_prob": lambda rng: ([*normal(rng, 3, 5, 4)], {"beta": 0.5}, {}),
    "preferences.sppo_loss": lambda rng: (
        [normal(rng, 5, 3), jnp.asarray(rng.random((5, 3)), jnp.float32)],
        {"beta": 0.5},
        {},
    ),
    "preferences.success_pair_loss": lambda rng: ([normal(rng, 5, 4), flags(rng, 5, 4)], {}, {}),
}
