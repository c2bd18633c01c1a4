"""Losses of models that make samples of noise: flow matching, noise prediction, score matching.

A sample x is `[..., d]`, and so is the standard normal noise ε that it is mixed with. Time and
level of the noise are of each sample, `[...]`.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


def _fit(x, level, *others):
    """Refuses what is not of the shape of x, or no level for each sample; the level `[..., 1]`."""
    chex.assert_equal_shape([x, *others])
    chex.assert_shape(level, x.shape[:-1])
    return level[..., None]


@at_least_float32
def flow_path(x: Array, noise: Array, t: Array) -> tuple[Array, Array]:
    """A point on the straight way from a sample at time 0 to noise at time 1, t·ε + (1 − t)·x, and
    the velocity there, ε − x.

    Args:
      x: the sample, `[..., d]`.
      noise: ε, `[..., d]`.
      t: the time, `[...]`, in [0, 1].

    Returns:
      (point, velocity), `[..., d]` each.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Lipman et al. 2023 (arXiv 2210.02747), the optimal-transport path, in the direction of
      time that GoRL takes.
    """
    t = _fit(x, t, noise)
    return t * noise + (1.0 - t) * x, noise - x


@at_least_float32
def flow_matching_loss(velocity: Array, target: Array) -> Array:
    """Squared error of a velocity per entry: mean_d (v − u)².

    Args:
      velocity: v, the network's at a point of `flow_path`, `[..., d]`.
      target: u, the velocity there, `[..., d]`; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Lipman et al. 2023 (arXiv 2210.02747), equation 14.
    """
    chex.assert_equal_shape([velocity, target])
    return jnp.mean(jnp.square(velocity - jax.lax.stop_gradient(target)), axis=-1)


@at_least_float32
def ddpm_noised(x: Array, noise: Array, alpha_bar: Array) -> Array:
    """A sample under noise of which its variance is kept: √ᾱ·x + √(1 − ᾱ)·ε.

    Args:
      x: the sample, `[..., d]`.
      noise: ε, `[..., d]`.
      alpha_bar: ᾱ, the sample's share of the variance, `[...]`, in [0, 1].

    Returns:
      The noised sample, `[..., d]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 4.
    """
    alpha_bar = _fit(x, alpha_bar, noise)
    return jnp.sqrt(alpha_bar) * x + jnp.sqrt(1.0 - alpha_bar) * noise


@at_least_float32
def ddpm_loss(predicted: Array, noise: Array) -> Array:
    """Squared error of the noise that a network sees in a noised sample: Σ_d (ε̂ − ε)².

    Args:
      predicted: ε̂, `[..., d]`.
      noise: ε, that of `ddpm_noised`, `[..., d]`; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Ho et al. 2020 (arXiv 2006.11239), equation 14.
    """
    chex.assert_equal_shape([predicted, noise])
    return jnp.sum(jnp.square(predicted - jax.lax.stop_gradient(noise)), axis=-1)


@at_least_float32
def noised(x: Array, noise: Array, sigma: Array) -> Array:
    """A sample under noise that comes on top: x + σ·ε, for score matching and EDM.

    Args:
      x: the sample, `[..., d]`.
      noise: ε, `[..., d]`.
      sigma: σ, standard deviation of the noise, `[...]`, in units of x.

    Returns:
      The noised sample, `[..., d]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: the definition; Karras et al. 2022 (arXiv 2206.00364).
    """
    return x + _fit(x, sigma, noise) * noise


@at_least_float32
def noise_score(noise: Array, sigma: Array) -> Array:
    """The score of x + σ·ε given x, which score matching regresses to: −ε/σ.

    Args:
      noise: ε, `[..., d]`, or a network's prediction of it, of which it makes a score.
      sigma: σ, standard deviation of the noise, `[...]`, above 0, in units of x.

    Returns:
      The score, `[..., d]`, in 1/units of x.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Vincent 2011 ("A Connection Between Score Matching and Denoising Autoencoders").
    """
    return -noise / _fit(noise, sigma)


@at_least_float32
def score_matching_loss(score: Array, noise: Array, sigma: Array) -> Array:
    """Denoising score matching that weighs all levels of the noise alike: Σ_d (σ·s + ε)².

    Args:
      score: s, the network's at x + σ·ε, `[..., d]`.
      noise: ε, `[..., d]`; its gradient is stopped.
      sigma: σ, standard deviation of the noise, `[...]`, above 0, in units of x.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Vincent 2011; the weight σ² is that of Song and Ermon 2019 (arXiv 1907.05600), equation
      6, without its ½.
    """
    sigma = _fit(score, sigma, noise)
    return jnp.sum(jnp.square(sigma * score + jax.lax.stop_gradient(noise)), axis=-1)


@at_least_float32
def edm_scales(sigma: Array, *, sigma_data: Scalar) -> tuple[Array, Array, Array, Array]:
    """The preconditioning of EDM: c_skip = σ_d²/(σ² + σ_d²), c_out = σ·σ_d/√(σ² + σ_d²), c_in =
    1/√(σ² + σ_d²), c_noise = ¼·log σ.

    Args:
      sigma: σ, standard deviation of the noise, `[...]`, above 0, in units of x.
      sigma_data: σ_d, that of the samples, above 0.

    Returns:
      (c_skip, c_out, c_in, c_noise), `[...]` each; the last stands for the time.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """
    total = jnp.square(sigma) + jnp.square(sigma_data)
    root = jnp.sqrt(total)
    skip = jnp.square(sigma_data) / total
    return skip, sigma * sigma_data / root, 1.0 / root, 0.25 * jnp.log(sigma)


@at_least_float32
def edm_denoised(x: Array, output: Array, sigma: Array, *, sigma_data: Scalar) -> Array:
    """The clean sample: D = c_skip·x + c_out·F, see `edm_scales`.

    Args:
      x: the noised sample, x_0 + σ·ε, `[..., d]`.
      output: F, the network's for c_in·x and c_noise, `[..., d]`.
      sigma: σ, standard deviation of the noise, `[...]`, above 0, in units of x.
      sigma_data: σ_d, that of the samples, above 0.

    Returns:
      D, `[..., d]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Karras et al. 2022 (arXiv 2206.00364), equation 7.
    """
    _fit(x, sigma, output)
    skip, out, *_ = edm_scales(sigma, sigma_data=sigma_data)
    return skip[..., None] * x + out[..., None] * output


@at_least_float32
def edm_loss(denoised: Array, x: Array, sigma: Array, *, sigma_data: Scalar) -> Array:
    """Squared error of the clean sample, weighed so that the network's output is weighed alike for
    all levels: (σ² + σ_d²)/(σ·σ_d)²·mean_d (D − x_0)².

    Args:
      denoised: D, see `edm_denoised`, `[..., d]`.
      x: x_0, the sample without noise, `[..., d]`; its gradient is stopped.
      sigma: σ, standard deviation of the noise, `[...]`, above 0, in units of x.
      sigma_data: σ_d, that of the samples, above 0.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Karras et al. 2022 (arXiv 2206.00364), table 1 (λ(σ)); the mean and not the sum over
      entries as the code released with policy-guided diffusion (arXiv 2404.06356).
    """
    _fit(x, sigma, denoised)
    weight = (jnp.square(sigma) + jnp.square(sigma_data)) / jnp.square(sigma * sigma_data)
    return weight * jnp.mean(jnp.square(denoised - jax.lax.stop_gradient(x)), axis=-1)
