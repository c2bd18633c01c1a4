"""Densities, entropies and divergences of the action distributions.

Gaussian functions are per dimension, `[..., d]`, and the caller sums over the last axis;
categorical ones reduce their last axis. All are in nats and finite for every finite input,
gradients included; those by float16 arrays are float16 and so overflow where they are above 65504.
"""

import math

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32, exp_then_tangent, log_softmax

Array = chex.Array
Scalar = float | Array

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# exp(±_MAX_LOG_STD) and its square stay inside float32; nothing a policy uses comes near.
_MAX_LOG_STD = 20.0
_MAX_STANDARDISED = 1e18  # its square stays inside float32


def _standardise(x: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
    """(x − mean)/std and log std, both limited so that squares of them are finite in float32."""
    log_std = jnp.clip(log_std, -_MAX_LOG_STD, _MAX_LOG_STD)
    # Halves, so that the difference of two large numbers does not overflow.
    z = 0.5 * x - 0.5 * mean
    z = jnp.clip(z, -_MAX_STANDARDISED, _MAX_STANDARDISED) * (2.0 * jnp.exp(-log_std))
    return jnp.clip(z, -_MAX_STANDARDISED, _MAX_STANDARDISED), log_std


@at_least_float32
def gaussian_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """Log-density of a Gaussian, per dimension: −½((x − mean)/std)² − log std − ½ log 2π.

    log_std is limited to [−20, 20] and the standardised distance to ±1e18, where the gradient is
    zero.

    Args:
      x: the point, `[..., d]`.
      mean: the mean, `[..., d]`, in the units of x.
      log_std: the natural logarithm of the standard deviation, `[..., d]`.

    Returns:
      The log-density, `[..., d]`, in nats; sum over the last axis for the joint one.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition; tested against scipy.
    """
    chex.assert_equal_shape([x, mean, log_std])
    z, log_std = _standardise(x, mean, log_std)
    return -0.5 * jnp.square(z) - log_std - _HALF_LOG_2PI


@at_least_float32
def gaussian_entropy(log_std: Array) -> Array:
    """Differential entropy of a Gaussian, per dimension: log std + ½ log 2πe.

    Args:
      log_std: the natural logarithm of the standard deviation, `[..., d]`; limited to [−20, 20].

    Returns:
      The entropy, `[..., d]`, in nats; sum over the last axis for the joint one.

    Source: the definition; tested against scipy.
    """
    return jnp.clip(log_std, -_MAX_LOG_STD, _MAX_LOG_STD) + 0.5 + _HALF_LOG_2PI


@at_least_float32
def gaussian_kl(mean_p: Array, log_std_p: Array, mean_q: Array, log_std_q: Array) -> Array:
    """KL(p‖q) of two Gaussians, per dimension: log(σ_q/σ_p) + (σ_p² + (μ_p − μ_q)²)/(2σ_q²) − ½.

    Args:
      mean_p: mean of p, `[..., d]`.
      log_std_p: log standard deviation of p, `[..., d]`; limited to [−20, 20].
      mean_q: mean of q, `[..., d]`.
      log_std_q: log standard deviation of q, `[..., d]`; limited to [−20, 20].

    Returns:
      The divergence, `[..., d]`, in nats; sum over the last axis for the joint one.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition; tested against distrax.
    """
    chex.assert_equal_shape([mean_p, log_std_p, mean_q, log_std_q])
    z, log_std_q = _standardise(mean_p, mean_q, log_std_q)
    # log(σ_p/σ_q), at most 40
    log_ratio = jnp.clip(log_std_p, -_MAX_LOG_STD, _MAX_LOG_STD) - log_std_q
    return 0.5 * (jnp.expm1(2.0 * log_ratio) + jnp.square(z)) - log_ratio


@at_least_float32
def tanh_gaussian_log_prob(pre_tanh: Array, mean: Array, log_std: Array) -> Array:
    """Log-density of tanh(u), u Gaussian, per dimension: log N(u; mean, std) − log(1 − tanh²(u)).

    Takes u itself, not tanh(u), so that no inverse is needed at ±1. The second term is written
    2·(log 2 − u − softplus(−2u)), which is exact for large |u| where 1 − tanh² underflows.

    Args:
      pre_tanh: u, the sample before the squashing, `[..., d]`.
      mean: mean of u, `[..., d]`.
      log_std: log standard deviation of u, `[..., d]`.

    Returns:
      The log-density of the action tanh(u), `[..., d]`, in nats; sum over the last axis for the
      joint one.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Haarnoja et al. 2018 (arXiv 1801.01290), appendix C, equation 21.
    """
    magnitude = jnp.clip(jnp.abs(pre_tanh), 0.0, _MAX_STANDARDISED)
    log_slope = 2.0 * (math.log(2.0) - magnitude - jax.nn.softplus(-2.0 * magnitude))
    return gaussian_log_prob(pre_tanh, mean, log_std) - log_slope


@at_least_float32
def categorical_log_prob(action: Array, logits: Array) -> Array:
    """Log-probability of a class: logits[action] − logsumexp(logits).

    Args:
      action: the class index, integer, `[...]`, in [0, n).
      logits: unnormalised log-probabilities, `[..., n]`.

    Returns:
      The log-probability, `[...]`, in nats.

    Raises:
      AssertionError: action has another shape than logits without its last axis.

    Source: the definition; tested against scipy.
    """
    chex.assert_shape(action, logits.shape[:-1])
    # A one-hot product instead of a gather: its gradient is a product too, which is faster on every
    # backend.
    one_hot = jax.nn.one_hot(action, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(one_hot * log_softmax(logits), axis=-1)


@at_least_float32
def categorical_entropy(logits: Array) -> Array:
    """Shannon entropy of a categorical distribution: −Σ p log p.

    Args:
      logits: unnormalised log-probabilities, `[..., n]`.

    Returns:
      The entropy, `[...]`, in nats, between 0 and log n.

    Source: the definition; tested against scipy.
    """
    log_probs = log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


@at_least_float32
def categorical_kl(logits_p: Array, logits_q: Array) -> Array:
    """KL(p‖q) of two categorical distributions: Σ p (log p − log q).

    Args:
      logits_p: unnormalised log-probabilities of p, `[..., n]`.
      logits_q: unnormalised log-probabilities of q, `[..., n]`.

    Returns:
      The divergence, `[...]`, in nats.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition; tested against distrax.
    """
    chex.assert_equal_shape([logits_p, logits_q])
    log_p = log_softmax(logits_p)
    log_q = log_softmax(logits_q)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


@at_least_float32
def tsallis_log(x: Array, *, q: Scalar) -> Array:
    """The q-logarithm of Tsallis: (x^(1−q) − 1)/(1 − q), and log x at q = 1.

    Args:
      x: positive numbers, `[...]`.
      q: entropic index, which may be traced through 1. MDPO's released code calls 2 − q what is q
        here.

    Returns:
      The q-logarithm, `[...]`.

    Source: Tomar et al. 2022 (arXiv 2005.09814), section 5; the definition is Tsallis 1994.
    """
    return tsallis_log_prob(jnp.log(x), q=q)


@at_least_float32
def tsallis_log_prob(log_prob: Array, *, q: Scalar) -> Array:
    """The q-logarithm of a density that is given as its logarithm, so that none underflows.

    (exp(t) − 1)/(1 − q) with t = (1 − q)·log_prob and, where t is small, its series, which has no
    pole: q may be traced through 1. Above t = 20 the exponential is continued by its tangent, so
    that gradients can be squared.

    Args:
      log_prob: log-densities, `[...]`, in nats.
      q: entropic index; at 1 the result is log_prob.

    Returns:
      The q-logarithm of exp(log_prob), `[...]`.

    Source: as `tsallis_log`.
    """
    t = (1.0 - q) * log_prob
    # exp(t) − 1 cancels below 0.1 (in the gradient by q twice); expm1 would cancel in the gradient
    # by x at large −t.
    small = jnp.abs(t) < 0.1
    series = log_prob * (
        1.0 + t / 2.0 * (1.0 + t / 3.0 * (1.0 + t / 4.0 * (1.0 + t / 5.0 * (1.0 + t / 6.0))))
    )
    # The divisor is kept away from zero so that no NaN enters the gradient.
    return jnp.where(
        small, series, (exp_then_tangent(t, 20.0) - 1.0) / jnp.where(small, 1.0, 1.0 - q)
    )
