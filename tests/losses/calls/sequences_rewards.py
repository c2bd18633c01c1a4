"""Sample calls of losses/sequences/rewards.py."""

import jax
import jax.numpy as jnp


def rewards(rng):
    return jnp.float32(rng.random((5, 4)))


def sets(rng):
    labels = jnp.int32(rng.integers(3, size=(5, 4)))
    return rewards(rng), labels, jnp.array([[0, 1], [1, 2], [0, 3]])


CALLS = {
    "sequences.rewards.dither": lambda rng: (
        (rewards(rng),),
        {"scale": 0.05},
        {"key": jax.random.key(0)},
    ),
    "sequences.rewards.fused_ranking_reward": lambda rng: (
        (jnp.float32(rng.normal(size=(5, 6))), jnp.int32(rng.integers(6, size=5))),
        {"weight": 0.05, "cutoff": 4.0},
        {},
    ),
    "sequences.rewards.gaussian_score_reward": lambda rng: (
        (rewards(rng), rewards(rng)),
        {"sigma": 0.5},
        {},
    ),
    "sequences.rewards.information_gain": lambda rng: ((rewards(rng),), {}, {}),
    "sequences.rewards.max_at_k": lambda rng: ((rewards(rng),), {}, {"k": 2}),
    "sequences.rewards.max_at_k_off_policy": lambda rng: (
        (rewards(rng), rewards(rng) - 0.5),
        {},
        {"k": 3},
    ),
    "sequences.rewards.set_advantage": lambda rng: (sets(rng), {}, {}),
    "sequences.rewards.set_scores": lambda rng: (sets(rng), {}, {}),
    "sequences.rewards.soft_threshold_reward": lambda rng: (
        (rewards(rng),),
        {"threshold": 0.8, "compress": 0.01, "expand": 1.0},
        {},
    ),
    "sequences.rewards.staged_reward": lambda rng: (
        (rewards(rng), jnp.asarray(rng.random((5, 4)) < 0.7)),
        {},
        {},
    ),
}
