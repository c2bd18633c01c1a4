"""Sample calls of losses/supervised.py."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def integers(rng, high, *shape):
    return jnp.asarray(rng.integers(high, size=shape), jnp.int32)


CALLS = {
    "supervised.hybrid_loss": lambda rng: (
        [*normal(rng, 2, 5, 3), integers(rng, 3, 5, 3)],
        {"gate": 1.0, "sft_coef": 0.5, "rl_coef": 2.0},
        {},
    ),
    "supervised.implicit_reward": lambda rng: ([*normal(rng, 2, 5, 3)], {"beta": 0.1}, {}),
    "supervised.one_token_rollout_expectation": lambda rng: (
        [
            normal(rng, 5, 3, 4),
            jnp.asarray(rng.dirichlet([1.0] * 4, size=(5, 3)), jnp.float32),
            integers(rng, 4, 5, 3),
        ],
        {"miss_reward": -0.1},
        {},
    ),
    "supervised.one_token_rollout_loss": lambda rng: (
        [normal(rng, 5, 3, 4), integers(rng, 4, 5, 3), integers(rng, 4, 5, 3, 6)],
        {"miss_reward": -0.1},
        {},
    ),
    "supervised.sft_divergence_loss": lambda rng: (
        [normal(rng, 5, 3)],
        {},
        {"divergence": "jensen_shannon"},
    ),
    "supervised.unified_surrogate": lambda rng: ([*normal(rng, 3, 5, 3)], {}, {}),
}
