"""Sample calls of losses/generative.py and losses/expo.py: five steps of three environments,
samples of four dimensions.
"""

import jax.numpy as jnp


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def share(rng, *shape):
    return jnp.asarray(rng.uniform(0.1, 0.9, size=shape), jnp.float32)


def samples(rng, count):
    return [*normal(rng, count, 5, 3, 4)]


EDM = {"sigma_data": 0.5}
CALLS = {
    "generative.flow_path": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], {}, {}),
    "generative.flow_matching_loss": lambda rng: (samples(rng, 2), {}, {}),
    "generative.ddpm_noised": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], {}, {}),
    "generative.ddpm_loss": lambda rng: (samples(rng, 2), {}, {}),
    "generative.noised": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], {}, {}),
    "generative.noise_score": lambda rng: ([*samples(rng, 1), share(rng, 5, 3)], {}, {}),
    "generative.score_matching_loss": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], {}, {}),
    "generative.edm_scales": lambda rng: ([share(rng, 5, 3)], EDM, {}),
    "generative.edm_denoised": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], EDM, {}),
    "generative.edm_loss": lambda rng: ([*samples(rng, 2), share(rng, 5, 3)], EDM, {}),
    "expo_edit": lambda rng: ([*samples(rng, 2), normal(rng, 5, 3)], {"edit_scale": 0.2}, {}),
    "expo_choice": lambda rng: ([*samples(rng, 1), normal(rng, 2, 5, 3)], {}, {}),
}
