"""Sample calls of losses/denoising.py."""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def positive(rng, *shape):
    return jnp.asarray(rng.uniform(0.1, 1.0, size=shape), jnp.float32)


CALLS = {
    "denoising.advantage_weighted_flow_loss": lambda rng: (
        [*positive(rng, 2, 5, 3), normal(rng, 5, 3)],
        {"temperature": 0.5, "clip": 1.0, "reference_coef": 0.3},
        {},
    ),
    "denoising.compose_scores": lambda rng: (
        [normal(rng, 2, 5, 3), jnp.asarray([0.3, 0.7], jnp.float32)],
        {},
        {},
    ),
    "denoising.initial_noise_log_prob": lambda rng: (
        [*normal(rng, 2, 5, 4), positive(rng, 5, 4)],
        {},
        {},
    ),
    "denoising.noise_prior_penalty": lambda rng: (
        [normal(rng, 5, 4), positive(rng, 5, 4)],
        {},
        {},
    ),
    "denoising.regulated_log_ratio": lambda rng: (
        [normal(rng, 5, 3), positive(rng, 5, 3)],
        {"step_std": 0.5},
        {},
    ),
    "denoising.step_log_prob": lambda rng: ([*normal(rng, 2, 5, 3, 4)], {"std": 0.4}, {}),
    "denoising.step_weight": lambda rng: (
        [positive(rng, 5, 3), positive(rng, 5, 3)],
        {"eta": 0.5},
        {},
    ),
}
