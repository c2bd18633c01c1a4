"""Sample calls of losses/sequences/advantages/."""

import jax.numpy as jnp
import numpy as np

GROUPS, SIZE, STEPS = 3, 5, 4


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def rewards(rng):
    return (normal(rng, GROUPS, SIZE),)


def responses(rng):
    """A mask of responses, from none to all of the tokens valid."""
    lengths = rng.permuted(np.arange(SIZE) % (STEPS + 1) * np.ones((GROUPS, 1), int), axis=-1)
    return jnp.asarray(np.arange(STEPS) < lengths[..., None])


def per_token(rng):
    return normal(rng, GROUPS, SIZE, STEPS)


def integers(rng, high, *shape):
    return jnp.asarray(rng.integers(high, size=shape), jnp.int32)


def flags(rng, *shape):
    return jnp.asarray(rng.random(shape) < 0.5)


CALLS = {
    "group_normalize": lambda rng: (rewards(rng), {"eps": 1e-6}, {}),
    "group_center": lambda rng: (rewards(rng), {}, {}),
    "leave_one_out": lambda rng: (rewards(rng), {}, {}),
    "whitened_group_center": lambda rng: (rewards(rng), {"eps": 1e-8}, {}),
    "best_minus_second": lambda rng: (rewards(rng), {}, {}),
    "segment_normalize": lambda rng: (
        (normal(rng, 9), integers(rng, 4, 9)),
        {"eps": 1e-6},
        {"num_segments": 4},
    ),
    "token_weighted_normalize": lambda rng: (
        (*rewards(rng), integers(rng, 9, GROUPS, SIZE)),
        {"fallback": 5.0, "eps": 1e-6},
        {},
    ),
    "beta_normalize": lambda rng: ((flags(rng, GROUPS, SIZE).astype(jnp.float32),), {}, {}),
    "asymmetric_advantage": lambda rng: (rewards(rng), {"shift": -0.1}, {}),
    "opmd_advantage": lambda rng: (rewards(rng), {"tau": 1.0}, {"baseline": "log_mean_exp"}),
    "signed_advantage": lambda rng: (
        (flags(rng, GROUPS, SIZE),),
        {"positive_weight": 0.1, "negative_weight": 1.0},
        {},
    ),
    "anchored_advantage": lambda rng: (rewards(rng), {"off_policy_scale": 1.2}, {}),
    "gradient_weighted_baseline": lambda rng: (
        (*rewards(rng), normal(rng, GROUPS, SIZE) ** 2),
        {},
        {},
    ),
    "semantic_entropy": lambda rng: ((integers(rng, 3, GROUPS, SIZE),), {}, {}),
    "cumulative_normalize": lambda rng: (
        (
            normal(rng, 2, GROUPS, SIZE),
            1 + integers(rng, 3, 2, GROUPS),
            normal(rng, 2, GROUPS),
            normal(rng, 2, GROUPS) ** 2,
        ),
        {},
        {},
    ),
    "sil_advantage": lambda rng: ((*rewards(rng), normal(rng, 7), flags(rng, 7)), {}, {}),
    "egae": lambda rng: (
        (per_token(rng), per_token(rng), responses(rng), flags(rng, GROUPS, SIZE)),
        {"gamma": 0.9, "gae_lambda": 0.9},
        {},
    ),
    "turn_normalize": lambda rng: ((per_token(rng), responses(rng)), {"eps": 1e-6}, {}),
    "turn_returns": lambda rng: ((per_token(rng), responses(rng)), {"gamma": 0.9}, {}),
    "rank_returns": lambda rng: ((per_token(rng),), {}, {"discount": "log_decay"}),
    "entropy_modulated_advantage": lambda rng: (
        (per_token(rng), per_token(rng) ** 2, responses(rng)),
        {"k": 1.0, "k_future": 1.0, "bonus": 0.05},
        {},
    ),
    "entropy_scaled_advantage": lambda rng: (
        (per_token(rng), per_token(rng) ** 2, responses(rng)),
        {"coef": 0.2},
        {},
    ),
    "implicit_process_rewards": lambda rng: (
        (per_token(rng), per_token(rng)),
        {"beta": 0.05},
        {},
    ),
    "process_advantage": lambda rng: (
        (per_token(rng), *rewards(rng), responses(rng)),
        {"process_coef": 5.0, "outcome_coef": 5.0},
        {},
    ),
    "step_rewards": lambda rng: (
        (per_token(rng), integers(rng, 2, GROUPS, SIZE, STEPS), responses(rng)),
        {},
        {"num_segments": 2},
    ),
    "step_advantage": lambda rng: (
        (per_token(rng), *rewards(rng), integers(rng, 2, GROUPS, SIZE, STEPS), responses(rng)),
        {"step_coef": 1.0},
        {"num_segments": 2},
    ),
    "tree_advantage": lambda rng: (
        (normal(rng, SIZE), jnp.asarray([0, 1, 2]), jnp.asarray([3, 4, 2])),
        {"margin": 0.1},
        {"num_iterations": 20},
    ),
    "tree_baseline": lambda rng: (
        (*rewards(rng), flags(rng, GROUPS, SIZE, SIZE)),
        {"weight": 0.5},
        {},
    ),
}
CALLS = {f"sequences.advantages.{name}": call for name, call in CALLS.items()}
