"""Estimators of returns and advantages over time-major rollouts, right about truncation.

Time is always the leading axis. At step t an episode can end in two ways: `terminated[t]`, the task
is over and nothing follows, so the bootstrap is zero; `truncated[t]`, a time limit cut it and the
value of the true successor (`next_values[t]`, *not* the value of the observation after the reset)
is bootstrapped. Both cut the trace: nothing flows back from the next episode. Where both are set,
it is a termination.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


def _discounted_sums(increments: Array, decays: Array) -> Array:
    """x[t] = increments[t] + decays[t]·x[t+1], zero past the end; time-major `[T, ...]`."""

    def step(carry, inputs):
        increment, decay = inputs
        carry = increment + decay * carry
        return carry, carry

    _, sums = jax.lax.scan(step, jnp.zeros_like(increments[0]), (increments, decays), reverse=True)
    return sums


def _as_float(flags: Array, like: Array) -> Array:
    return jnp.asarray(flags).astype(jnp.result_type(like, jnp.float32))


@at_least_float32
def gae(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    *,
    gamma: Scalar,
    gae_lambda: Scalar,
) -> tuple[Array, Array]:
    """Generalised advantage estimation with separate termination and truncation.

    δ_t = r_t + γ(1 − terminated_t)·V(s'_t) − V(s_t);  A_t = δ_t + γλ(1 − terminated_t)(1 −
    truncated_t)·A_{t+1}.

    Args:
      rewards: r_t, `[T, ...]`.
      values: V(s_t), `[T, ...]`, in units of return.
      next_values: V of the true successor of step t, `[T, ...]`. Equals values[t + 1] except where
        an episode ended.
      terminated: the task ended at step t, bool (or 0/1), `[T, ...]`.
      truncated: a time limit cut the episode at step t, bool (or 0/1), `[T, ...]`.
      gamma: discount per step, in [0, 1].
      gae_lambda: λ in [0, 1]; 0 is the one-step advantage, 1 the Monte Carlo one.

    Returns:
      (advantages, targets), both `[T, ...]` with stopped gradients; targets = advantages + values,
      the λ-return.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Schulman et al. 2016 (arXiv 1506.02438), equation 16; truncation as in Pardo et al. 2018
    (arXiv 1712.00378), section 3. Published PPO code (baselines, CleanRL) treats truncation as
    termination; Brax gives a truncated step the advantage 0.
    """
    chex.assert_equal_shape([rewards, values, next_values, terminated, truncated])
    continues = 1.0 - _as_float(terminated, rewards)
    unbroken = continues * (1.0 - _as_float(truncated, rewards))
    deltas = rewards + gamma * continues * next_values - values
    advantages = _discounted_sums(deltas, gamma * gae_lambda * unbroken)
    return jax.lax.stop_gradient((advantages, advantages + values))


@at_least_float32
def lambda_returns(
    rewards: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    *,
    gamma: Scalar,
    gae_lambda: Scalar,
) -> Array:
    """The λ-return, for when no V(s_t) is at hand; equal to the targets of `gae`.

    G_t = r_t + γ(1 − terminated_t)·((1 − λ_t)·V(s'_t) + λ_t·G_{t+1}), λ_t = λ inside an episode and
    0 at its end.

    Args:
      rewards: r_t, `[T, ...]`.
      next_values: V of the true successor of step t, `[T, ...]`, in units of return.
      terminated: the task ended at step t, bool (or 0/1), `[T, ...]`.
      truncated: a time limit cut the episode at step t, bool (or 0/1), `[T, ...]`.
      gamma: discount per step, in [0, 1].
      gae_lambda: λ in [0, 1].

    Returns:
      The returns, `[T, ...]`, with stopped gradients.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Sutton and Barto 2018, equation 12.18.
    """
    chex.assert_equal_shape([rewards, next_values, terminated, truncated])
    continues = 1.0 - _as_float(terminated, rewards)
    trace = gae_lambda * continues * (1.0 - _as_float(truncated, rewards))
    # Past the end of the rollout there is no G: bootstrap fully from the last successor.
    trace = jnp.concatenate([trace[:-1], jnp.zeros_like(trace[-1:])])
    increments = rewards + gamma * (continues - trace) * next_values
    return jax.lax.stop_gradient(_discounted_sums(increments, gamma * trace))


@at_least_float32
def n_step_return(
    rewards: Array, terminated: Array, truncated: Array, *, gamma: Scalar
) -> tuple[Array, Array, Array]:
    """Discounted sum of a window of rewards, cut at the first end of an episode in it.

    Σ_{k≤i} γ^k·r_k with i the first row where the episode terminated or was truncated, or n − 1 if
    none was.

    Args:
      rewards: the window, time-major `[n, ...]`.
      terminated: the task ended at that row, bool (or 0/1), `[n, ...]`.
      truncated: a time limit cut the episode at that row, bool (or 0/1), `[n, ...]`.
      gamma: discount per step, in [0, 1].

    Returns:
      (returns, discount, index), each `[...]` with stopped gradients: the sum; the factor of the
      bootstrap, γ^(index+1)·(1 − terminated[index]); and index (int32), the row whose next_obs
      bootstraps.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Hessel et al. 2018 (arXiv 1710.02298), section 3, with truncation kept apart.
    """
    chex.assert_equal_shape([rewards, terminated, truncated])
    n = rewards.shape[0]
    done = jnp.maximum(_as_float(terminated, rewards), _as_float(truncated, rewards)) > 0
    index = jnp.where(jnp.any(done, axis=0), jnp.argmax(done, axis=0), n - 1).astype(jnp.int32)
    rows = jnp.arange(n, dtype=jnp.int32).reshape((n,) + (1,) * (rewards.ndim - 1))
    powers = jnp.power(gamma, rows.astype(jnp.result_type(rewards, jnp.float32)))
    returns = jnp.sum(jnp.where(rows <= index[None], powers * rewards, 0.0), axis=0)
    ended = jnp.take_along_axis(_as_float(terminated, rewards), index[None], axis=0)[0]
    discount = jnp.power(gamma, (index + 1).astype(returns.dtype)) * (1.0 - ended)
    return jax.lax.stop_gradient((returns, discount, index))


@at_least_float32
def vtrace(
    log_ratio: Array,
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    *,
    gamma: Scalar,
    gae_lambda: Scalar = 1.0,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
) -> tuple[Array, Array]:
    """V-trace: off-policy corrected value targets and policy-gradient advantages.

    ρ_t = min(clip_rho, π/μ), c_t = λ·min(clip_c, π/μ), δ_t = ρ_t(r_t + γ(1 − terminated_t)V(s'_t) −
    V(s_t)); v_t = V(s_t) + δ_t + γ(1 − done_t)·c_t·(v_{t+1} − V(s_{t+1})); A_t = ρ_t(r_t + γ(1 −
    terminated_t)·v'_t − V(s_t)), v'_t = v_{t+1} inside an episode, V(s'_t) at its end.

    Args:
      log_ratio: log π(a_t|s_t) − log μ(a_t|s_t), target over behaviour policy, `[T, ...]`, in nats.
      rewards: r_t, `[T, ...]`.
      values: V(s_t), `[T, ...]`, in units of return.
      next_values: V of the true successor of step t, `[T, ...]`.
      terminated: the task ended at step t, bool (or 0/1), `[T, ...]`.
      truncated: a time limit cut the episode at step t, bool (or 0/1), `[T, ...]`.
      gamma: discount per step, in [0, 1].
      gae_lambda: λ in [0, 1].
      clip_rho: bound of the ratio in δ and in the advantage; it decides what the values converge
        to.
      clip_c: bound of the ratio in the trace; it decides how fast.

    Returns:
      (advantages, targets), both `[T, ...]` with stopped gradients.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Espeholt et al. 2018 (arXiv 1802.01561), equation 1 and remark 2.
    """
    chex.assert_equal_shape([log_ratio, rewards, values, next_values, terminated, truncated])
    continues = 1.0 - _as_float(terminated, rewards)
    unbroken = continues * (1.0 - _as_float(truncated, rewards))
    # exp(80) is finite in float32, and far above any clip.
    ratio = jnp.exp(jnp.minimum(log_ratio, 80.0))
    rho = jnp.minimum(ratio, clip_rho)
    c = gae_lambda * jnp.minimum(ratio, clip_c)
    deltas = rho * (rewards + gamma * continues * next_values - values)
    targets = values + _discounted_sums(deltas, gamma * unbroken * c)
    corrected_next = jnp.concatenate(
        [jnp.where(unbroken[:-1] > 0, targets[1:], next_values[:-1]), next_values[-1:]]
    )
    advantages = rho * (rewards + gamma * continues * corrected_next - values)
    return jax.lax.stop_gradient((advantages, targets))
