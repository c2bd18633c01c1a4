"""Penalties that are added to a loss: divergence from a reference, drift, entropy, duals."""

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32
from ..ratios import approx_kl

Array = chex.Array
Scalar = float | Array


@at_least_float32
def kl_k1(log_prob: Array, ref_log_prob: Array) -> Array:
    """Estimate of KL(π‖ref) from an action of π, without bias, of either sign: log π − log π_ref.

    As a penalty that is differentiated it does nothing: the gradient's mean is 0.

    Args:
      log_prob: log π of the drawn action under the policy that is trained, `[...]`, in nats.
      ref_log_prob: log π_ref of it, `[...]`; data.

    Returns:
      The estimate, `[...]`, in nats.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the estimator k1 of Schulman, "Approximating KL divergence", 2020.
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    return log_prob - ref_log_prob


@at_least_float32
def kl_k2(log_prob: Array, ref_log_prob: Array) -> Array:
    """Estimate of KL(π‖ref) from an action of π, never negative: ½·(log π − log π_ref)².

    It is biased; its gradient d·∇log π, d = log π − log π_ref, has the mean of ∇KL(π‖ref).

    Args:
      log_prob: log π of the drawn action under the policy that is trained, `[...]`, in nats.
      ref_log_prob: log π_ref of it, `[...]`; data.

    Returns:
      The estimate, `[...]`, in nats.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the estimator k2 of Schulman, "Approximating KL divergence", 2020.
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    return 0.5 * jnp.square(log_prob - ref_log_prob)


@at_least_float32
def kl_k3(log_prob: Array, ref_log_prob: Array) -> Array:
    """Estimate of KL(π‖ref) from an action of π, without bias, never negative: e^{−d} + d − 1.

    With d = log π − log π_ref: `approx_kl` with the reference as the policy that moves. The
    gradient is (1 − e^{−d})·∇log π, whose mean is that of KL(ref‖π).

    Args:
      log_prob: log π of the drawn action under the policy that is trained, `[...]`, in nats.
      ref_log_prob: log π_ref of it, `[...]`; data.

    Returns:
      The estimate, `[...]`, in nats; not clamped, and infinite below d = −88.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the estimator k3 of Schulman, "Approximating KL divergence", 2020; GRPO (arXiv
    2402.03300). verl clamps it to ±10.
    """
    return approx_kl(ref_log_prob, log_prob)


@at_least_float32
def policy_drift(log_ratio: Array, *, cap: Scalar) -> Array:
    """A pull towards the old policy with the gradient of k3, capped: min(ρ − 1, cap)·∇log π.

    With ρ = e^{log_ratio} the value is sg(min(ρ − 1, cap))·log ρ, 0 at ρ = 1 as is the gradient.

    Args:
      log_ratio: log π − log π_old of the drawn action, `[...]`, in nats.
      cap: greatest ρ − 1 that the gradient takes into account.

    Returns:
      The penalty, `[...]`.

    Source: CPGD (arXiv 2505.12504); its cap was not in what could be read.
    """
    slope = jnp.minimum(jnp.expm1(jnp.clip(log_ratio, -20.0, 20.0)), cap)
    return jax.lax.stop_gradient(slope) * log_ratio


@at_least_float32
def dual_step(dual: Array, value: Array, *, target: Scalar, step_size: Scalar) -> Array:
    """A step of gradient ascent on the multiplier of a constraint: max(0, dual + step·(value −
    target)).

    Args:
      dual: the multiplier, `[...]`, not negative.
      value: what is to stay below the target, `[...]`, as the mean of (ρ − 1)².
      target: the bound, in units of the value.
      step_size: change of the multiplier for a unit above the target.

    Returns:
      The next multiplier, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after R²VPO (arXiv 2601.03320); the paper's exact form was not available.
    """
    chex.assert_equal_shape([dual, value])
    return jax.lax.stop_gradient(jnp.maximum(0.0, dual + step_size * (value - target)))


@at_least_float32
def entropy_band_penalty(
    entropy: Array,
    history: Array,
    *,
    low: Scalar = 0.8,
    high: Scalar = 1.2,
    penalty: Scalar = 0.1,
) -> Array:
    """A constant where the entropy has left a band around the mean of earlier training.

    0 where low·H̄ < H < high·H̄, else the penalty. The loss is the policy's minus c·w·(mean H −
    mean penalty), w the `entropy_phase_weight` and c .001 in the paper.

    Args:
      entropy: H of the policy at a position, `[...]`, in nats.
      history: H̄, the running mean of the entropy over the steps before, a scalar or `[...]`.
      low: lower edge of the band, in units of H̄.
      high: upper edge of the band, in units of H̄.
      penalty: what a position outside of the band costs.

    Returns:
      The penalty, `[...]`, with stopped gradient.

    Raises:
      AssertionError: history is no scalar and differs in shape from entropy.

    Source: EPO (arXiv 2509.22576), the released code, in which the penalty is a constant and so has
    no gradient; the paper treats it as one that has.
    """
    if jnp.ndim(history) > 0:
        chex.assert_equal_shape([entropy, history])
    is_inside = (low * history < entropy) & (entropy < high * history)
    penalty = jnp.where(is_inside, 0.0, penalty).astype(jnp.result_type(entropy))
    return jax.lax.stop_gradient(penalty)


@at_least_float32
def entropy_phase_weight(progress: Array) -> Array:
    """Weight of an entropy bonus over training: 1 − .2·(1 − e^{−2p}) before p = ½, then .8·e^{−3p}.

    Args:
      progress: p, the share of training that is over, `[...]`, in [0, 1].

    Returns:
      The weight, `[...]`, with stopped gradient; it jumps at ½, from .874 to .179, as released.

    Source: EPO (arXiv 2509.22576), the released code.
    """
    early = 1.0 - 0.2 * (1.0 - jnp.exp(-2.0 * progress))
    late = 0.8 * jnp.exp(-3.0 * progress)
    return jax.lax.stop_gradient(jnp.where(progress < 0.5, early, late))
