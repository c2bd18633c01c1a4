"""Sample calls of losses/sequences/reductions.py."""

import jax.numpy as jnp


def masked(rng):
    return jnp.float32(rng.normal(size=(5, 3))), jnp.asarray(rng.random((5, 3)) < 0.7)


CALLS = {
    "sequences.reductions.aggregate": lambda rng: (
        masked(rng),
        {"horizon": 4.0},
        {"mode": "seq-mean-token-sum-norm"},
    ),
    "sequences.reductions.denominator": lambda rng: (
        masked(rng)[1:],
        {"horizon": 4.0},
        {"mode": "seq-mean-token-sum-norm"},
    ),
    "sequences.reductions.masked_mean": lambda rng: (masked(rng), {}, {}),
    "sequences.reductions.masked_quantile": lambda rng: (masked(rng), {"q": 0.8}, {}),
    "sequences.reductions.masked_whiten": lambda rng: (masked(rng), {"eps": 1e-3}, {}),
    "sequences.reductions.sequence_mean": lambda rng: (masked(rng), {}, {}),
    "sequences.reductions.sequence_sum": lambda rng: (masked(rng), {}, {}),
}
