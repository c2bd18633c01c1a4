"""The sampler of EDM (Karras et al., 2022, arXiv 2206.00364), Heun's steps from the largest level
of the noise to none, with a hook by which policy-guided diffusion (Jackson et al., 2024, arXiv
2404.06356) guides it.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from .keys import split_for_scan, unpack_keys


def noise_levels(num_steps: int, *, low: float, high: float, rho: float) -> chex.Array:
    """σ before each of n steps and 0 after the last: (high^(1/ρ) + i/(n − 1)·(low^(1/ρ) −
    high^(1/ρ)))^ρ.

    Args:
      num_steps: n, at least 2.
      low: the smallest above 0.
      high: the largest.
      rho: ρ; 1 is evenly spaced, a larger one is finer at the low end.

    Returns:
      σ, `[n + 1]`, falling.

    Source: Karras et al. 2022, equation 5.
    """
    first, last = high ** (1.0 / rho), low ** (1.0 / rho)
    levels = (first + jnp.arange(num_steps) / (num_steps - 1) * (last - first)) ** rho
    levels = levels.at[0].set(high).at[-1].set(low)  # to the bit, for the bounds of `churn`
    return jnp.concatenate([levels, jnp.zeros(1)])


def churn(
    sigma: chex.Array, num_steps: int, *, amount: float, low: float, high: float
) -> chex.Array:
    """γ, the share by which the noise is raised before a step: min(amount/n, √2 − 1) where low ≤ σ
    ≤ high, else 0.

    Args:
      sigma: σ before the step, `[...]`.
      num_steps: n.
      amount: of all steps together.
      low: the smallest level that is raised.
      high: the largest.

    Returns:
      γ, `[...]`.

    Source: Karras et al. 2022, algorithm 2.
    """
    within = (sigma >= low) & (sigma <= high)
    return jnp.where(within, min(amount / num_steps, 2.0**0.5 - 1.0), 0.0)


def guidance_weight(step: chex.Array, num_steps: int, *, cosine: float) -> chex.Array:
    """How much a step is guided beside others: 1 − i/n + cosine·sin(π·(i + 1)/n).

    Args:
      step: i, from 0.
      num_steps: n.
      cosine: weight of the second term.

    Source: the code released with Jackson et al. 2024.
    """
    return 1.0 - step / num_steps + cosine * jnp.sin(jnp.pi * (step + 1) / num_steps)


def guidance_shift(grads: chex.Array, weight: chex.Array, *, normalise: bool) -> chex.Array:
    """By how much guidance moves what is sampled: weight·g, or weight·g/‖g‖ of the whole array.

    Differs from the code released with Jackson et al. 2024 in that nothing is added to g/‖g‖ (there
    1e-8, to each entry), and a gradient of 0 moves nothing.

    Args:
      grads: g, the gradient of what is to rise, any shape.
      weight: a scalar.
      normalise: whether to divide by the norm.
    """
    if normalise:
        norm = jnp.linalg.norm(grads)
        grads = jnp.where(norm > 0.0, grads / jnp.where(norm > 0.0, norm, 1.0), 0.0)
    return weight * grads


def policy_guide(
    slope: Callable[[chex.Array], chex.Array],
    num_steps: int,
    *,
    strength: float | chex.Array,
    cosine: float = 0.3,
    delay: int = 0,
    normalise: bool = True,
) -> Callable[[chex.Array, chex.Array, chex.Array], chex.Array]:
    """The `guide` of policy-guided diffusion: before the steps from `delay` to the last but one, x
    + strength·weight·g, see `guidance_weight` and `guidance_shift`.

    Args:
      slope: x `[B, d]` -> g `[B, d]`, the gradient of each trajectory's log-likelihood under a
        policy, 0 for entries that are not to be moved, as all but actions are.
      num_steps: n.
      strength: κ; with 0 nothing is guided.
      cosine: weight of the second term of `guidance_weight`.
      delay: steps before the first that is guided.
      normalise: whether each trajectory's gradient has length 1.

    Source: Jackson et al. 2024, section 3, and the code released with it.
    """

    def guide(x, level, number):
        del level
        weight = strength * guidance_weight(number, num_steps, cosine=cosine)
        shift = jax.vmap(lambda g: guidance_shift(g, weight, normalise=normalise))(slope(x))
        return x + jnp.where((number >= delay) & (number <= num_steps - 2), shift, 0.0)

    return guide


def sample(
    denoise: Callable[[chex.Array, chex.Array], chex.Array],
    noise: chex.Array,
    key: chex.PRNGKey,
    sigma: chex.Array,
    gamma: chex.Array,
    *,
    noise_scale: float = 1.003,
    guide: Callable[[chex.Array, chex.Array, chex.Array], chex.Array] | None = None,
) -> chex.Array:
    """Heun's steps through the levels of the noise.

    Differs from the code released with Jackson et al. 2024 in that both of Heun's slopes begin at
    the point whose noise was raised.

    Args:
      denoise: (x `[..., d]`, σ `[...]`) -> the clean sample, see `losses.generative.edm_denoised`.
      noise: standard normal, `[..., d]`.
      key: a typed key, for the noise that is added.
      sigma: the levels, `[n + 1]`, see `noise_levels`.
      gamma: by how much each is raised, `[n]` or more, see `churn`.
      noise_scale: of the noise that is added.
      guide: (x, σ, number of the step) -> x, before a step is taken; None leaves it.

    Returns:
      The sample, `[..., d]`.

    Source: Karras et al. 2022, algorithm 2.
    """
    num_steps = sigma.shape[0] - 1

    def slope(x, level):
        return (x - denoise(x, jnp.full(x.shape[:-1], level))) / level

    def step(x, inputs):
        number, key_data = inputs
        (step_key,) = unpack_keys(key_data, key)
        level, following = sigma[number], sigma[number + 1]
        raised = level * (1.0 + gamma[number])
        added = noise_scale * jnp.sqrt(jnp.maximum(raised**2 - level**2, 0.0))
        x = x + added * jax.random.normal(step_key, x.shape)
        x = x if guide is None else guide(x, raised, number)
        first = slope(x, raised)
        moved = x + (following - raised) * first
        second = slope(moved, jnp.where(following > 0.0, following, raised))
        corrected = x + (following - raised) * 0.5 * (first + second)
        return jnp.where(following > 0.0, corrected, moved), None

    steps = jnp.arange(num_steps), split_for_scan(key, num_steps, 1)
    return jax.lax.scan(step, sigma[0] * noise, steps)[0]
