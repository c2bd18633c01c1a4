"""Policies that denoise or flow: Gaussian steps, their ratios, losses of flow matching.

Steps are time: a sample and the mean of its step are `[..., T, D]`.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .distributions import gaussian_log_prob

Array = chex.Array
Scalar = float | Array


@at_least_float32
def step_log_prob(x: Array, mean: Array, *, std: Scalar) -> Array:
    """Log-density of a denoising step: log N(x; mean, std²), summed over its D dimensions.

    DDPO, Flow-GRPO and FIND average over D instead: divide by D. Their ratios are then D-th roots,
    and their ranges of clipping, 1e-4 and the like, are for those.

    Args:
      x: what the step led to, `[..., T, D]`.
      mean: where the policy would lead it to on average, `[..., T, D]`.
      std: standard deviation of a step's noise, above 0, in units of x: a scalar or `[..., T]`.

    Returns:
      The log-density, `[..., T]`, in nats.

    Raises:
      AssertionError: x and mean differ in shape.

    Source: the definition; denoising steps as actions are those of DDPO (arXiv 2305.13301).
    """
    chex.assert_equal_shape([x, mean])
    log_std = jnp.broadcast_to(jnp.log(std)[..., None], x.shape)
    return jnp.sum(gaussian_log_prob(x, mean, log_std), axis=-1)


@at_least_float32
def regulated_log_ratio(log_ratio: Array, shift_sq: Array, *, step_std: Scalar) -> Array:
    """The log-ratio of a Gaussian step at mean 0 and a spread that no step size enters.

    s·(log ρ + ‖Δμ‖²/(2s²)), s = step_std. For a step x = μ_old + s·ε of the old policy it is the
    mean over D of ε·Δμ. Clip it as a log-ratio.

    Args:
      log_ratio: log ρ of each step, the mean over D of the difference of log-densities, `[..., T]`.
      shift_sq: ‖Δμ‖², the mean over D of (mean − old mean)², `[..., T]`. It is differentiated too.
      step_std: s = σ·√Δt, standard deviation of a step's noise: a scalar or `[..., T]`.

    Returns:
      The regulated log-ratio, `[..., T]`.

    Raises:
      AssertionError: log_ratio and shift_sq differ in shape.

    Source: GRPO-Guard (arXiv 2510.22319), a re-implementation of its equations.
    """
    chex.assert_equal_shape([log_ratio, shift_sq])
    return step_std * log_ratio + shift_sq / (2.0 * step_std)


@at_least_float32
def step_weight(dt: Array, t: Scalar = 1.0, *, eta: Scalar = 0.0) -> Array:
    """Weight of a step's loss beside that of the others: (1 + η²·(1 − t)/(2t))/Δt.

    With η = 0 it is 1/Δt, for the noise of Flow-GRPO, η·√(t/(1 − t)); with η that of DanceGRPO, for
    constant noise.

    Args:
      dt: Δt, the length of the step in time, above 0, `[...]`.
      t: time of the step in (0, 1], 1 being noise, `[...]` or a scalar.
      eta: η of DanceGRPO, 0 for Flow-GRPO.

    Returns:
      The weight, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: GRPO-Guard (arXiv 2510.22319), as a re-implementation of it has them. The derivative of
    a step's mean by the velocity is (1 + η²·(1 − t)/(2t))·Δt, the inverse of which would weigh all
    steps alike: the two agree in Δt, not in the factor before it.
    """
    if jnp.ndim(t):
        chex.assert_equal_shape([dt, t])
    return jax.lax.stop_gradient((1.0 + jnp.square(eta) * (1.0 - t) / (2.0 * t)) / dt)


@at_least_float32
def initial_noise_log_prob(noise: Array, mean: Array, std: Array) -> Array:
    """Log-density of the noise that a sample starts from, under a learnt Gaussian: the mean over D
    of log N(noise; mean, std²).

    The loss there is −10·A·clip(ρ, .8, 1.2) + .01·`noise_prior_penalty`: clipped without PPO's
    minimum, with no gradient outside on either side.

    Args:
      noise: the initial noise that was drawn, `[..., D]`.
      mean: mean of the policy, `[..., D]`.
      std: standard deviation of the policy, `[..., D]`; 1e-4 at least.

    Returns:
      The mean log-density, `[...]`, in nats per dimension.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: FIND (arXiv 2407.19453), its released code.
    """
    chex.assert_equal_shape([noise, mean, std])
    return jnp.mean(gaussian_log_prob(noise, mean, jnp.log(jnp.maximum(std, 1e-4))), axis=-1)


@at_least_float32
def noise_prior_penalty(mean: Array, std: Array) -> Array:
    """Holds a policy of initial noise at the standard Gaussian: the mean over D of mean² + (std −
    1)².

    Args:
      mean: mean of the policy, `[..., D]`.
      std: standard deviation of the policy, `[..., D]`.

    Returns:
      The penalty, `[...]`; 0 without gradient at N(0, 1).

    Raises:
      AssertionError: the arrays differ in shape.

    Source: FIND (arXiv 2407.19453), its released code.
    """
    chex.assert_equal_shape([mean, std])
    return jnp.mean(jnp.square(mean) + jnp.square(std - 1.0), axis=-1)


@at_least_float32
def advantage_weighted_flow_loss(
    velocity_error_sq: Array,
    reference_error_sq: Array,
    advantage: Array,
    *,
    temperature: Scalar,
    clip: Scalar,
    reference_coef: Scalar,
) -> Array:
    """Flow matching that weighs good samples more and stays near a reference flow.

    e^{clip(A, −c, c)/temperature}·‖v − u‖² + reference_coef·‖v − v_ref‖².

    Args:
      velocity_error_sq: ‖v − u‖², v the trained velocity and u that of flow matching, `[...]`.
      reference_error_sq: ‖v − v_ref‖², `[...]`.
      advantage: A of the sample, `[...]`; 0 while a critic that it comes from warms up.
      temperature: above 0, in units of A.
      clip: c, above 0, in units of A; c/temperature bounds the log of the weight.
      reference_coef: factor of the second term, at least 0, a bound of the Wasserstein distance.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after AC-Flow (arXiv 2510.18072), whose exact form was not available: its critic,
    shaping and weights are not here. It is built round ORW-CFM-W2 (arXiv 2502.06061).
    """
    chex.assert_equal_shape([velocity_error_sq, reference_error_sq, advantage])
    weight = jax.lax.stop_gradient(jnp.exp(jnp.clip(advantage, -clip, clip) / temperature))
    return weight * velocity_error_sq + reference_coef * reference_error_sq


@at_least_float32
def compose_scores(scores: Array, weights: Array) -> Array:
    """The score of a product of P policies, at one denoising step: Σ_p w_p·score_p.

    Args:
      scores: what each denoises the same sample to, `[P, ...]`.
      weights: w, at least 0 and summing to 1, `[P]`; .3 and .7, say. Choose them by rollouts.

    Returns:
      The composed score, `[...]`.

    Raises:
      AssertionError: the weights are not one a policy.

    Source: GPC (arXiv 2510.01068) and its released code.
    """
    chex.assert_rank(weights, 1)
    chex.assert_equal_shape_prefix([scores, weights], 1)
    return jnp.sum(scores * weights.reshape(-1, *(1,) * (scores.ndim - 1)), axis=0)
