"""Rewards: scores of whole sequences or of their parts, before anything is compared.

They are data: nothing here is differentiated, and every result has a stopped gradient.
"""

import math

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32, centred, safe_divide, select
from ..distributions import categorical_log_prob

Array = chex.Array
Scalar = float | Array


@at_least_float32
def max_at_k(rewards: Array, *, k: int) -> Array:
    """What each of n rewards adds to the expected maximum of k of them, drawn without replacement.

    Σ over the k-subsets that contain it of their maximum, over the number C(n, k) of k-subsets. It
    is the coefficient of ∇log π of its sequence: sum over the group, average over groups, and do
    not normalise again. k = 1 gives r/n, k = n the maximum for all.

    Args:
      rewards: of each sequence of a group, `[..., G]`.
      k: size of the subsets, static, in 1..G.

    Returns:
      The coefficients, `[..., G]`, in units of reward.

    Raises:
      ValueError: k is not in 1..G.

    Source: max@k (arXiv 2510.23393), the on-policy estimator; checked against enumeration.
    """
    return max_at_k_off_policy(rewards, jnp.zeros_like(rewards), k=k)


@at_least_float32
def max_at_k_off_policy(rewards: Array, ratio_minus_one: Array, *, k: int) -> Array:
    """`max_at_k` of sequences that an older policy drew, to first order in how far it is.

    With δ_l = ρ_l − 1, every k-subset S that contains a sequence counts its maximum 1 + Σ_{l∈S} δ_l
    times. δ = 0 is `max_at_k`.

    Args:
      rewards: of each sequence of a group, `[..., G]`.
      ratio_minus_one: δ, the ratio of the policies over the whole sequence less 1, `[..., G]`. Not
        differentiated.
      k: size of the subsets, static, in 1..G.

    Returns:
      The coefficients, `[..., G]`, in units of reward.

    Raises:
      AssertionError: the arrays differ in shape.
      ValueError: k is not in 1..G.

    Source: max@k (arXiv 2510.23393), the off-policy estimator; checked against enumeration.
    """
    chex.assert_equal_shape([rewards, ratio_minus_one])
    if not 1 <= k <= rewards.shape[-1]:
        raise ValueError(f"k={k}: must be in 1..{rewards.shape[-1]}, the size of the group")
    order = jnp.argsort(rewards, axis=-1)
    reward = jnp.take_along_axis(rewards, order, axis=-1)
    delta = jnp.take_along_axis(ratio_minus_one, order, axis=-1)
    delta_below = jnp.cumsum(delta, axis=-1) - delta
    # Of the k-subsets, the share whose highest is this rank, one to three of its members given.
    of_one, of_two, of_three = (_share_of_subsets(reward, k, given) for given in (1, 2, 3))
    own = (of_one * (1.0 + delta) + of_two * delta_below) * reward
    higher = (of_two * (1.0 + delta) + of_three * delta_below) * reward
    both = (of_two - of_three) * reward
    ranked = own + _sum_above(higher) + delta * _sum_above(both)
    coefficients = jnp.take_along_axis(ranked, jnp.argsort(order, axis=-1), axis=-1)
    return jax.lax.stop_gradient(coefficients)


@at_least_float32
def dither(rewards: Array, key: chex.PRNGKey, *, scale: Scalar, kind: str = "normal") -> Array:
    """Rewards with zero-mean noise: r + N(0, scale²) or r + U(−scale, scale).

    Made for rewards of few values, which often leave a group without a difference. The mean stays,
    so with `group_center` the policy gradient stays unbiased. `group_normalize` blows the noise of
    a group of equal rewards up to unit scale, however small it is.

    Args:
      rewards: of each sequence, `[...]`.
      key: a PRNG key.
      scale: standard deviation of the normal noise, half-width of the uniform one, in units of
        reward; 0.05, normal, in published configurations.
      kind: "normal" or "uniform", static.

    Returns:
      The rewards with noise, `[...]`.

    Raises:
      ValueError: the kind is neither.

    Source: ReDit (arXiv 2506.18631).
    """
    draws = {"normal": jax.random.normal, "uniform": _uniform_around_0}
    if kind not in draws:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(draws)}")
    noise = draws[kind](key, rewards.shape, jnp.result_type(rewards, jnp.float32))
    return jax.lax.stop_gradient(rewards + scale * noise)


@at_least_float32
def staged_reward(stage_rewards: Array, passed: Array) -> Array:
    """Rewards of stages of which each pays only if all before it were passed: Σ_s r_s·Π_{j<s} p_j.

    Args:
      stage_rewards: r_s, `[..., S]`, in order; may hold NaN in a stage that is not reached.
      passed: p_s, whether stage s was passed, bool (or 0/1), `[..., S]`; the last is not looked at.

    Returns:
      The reward, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after PRS (arXiv 2512.07478); the paper's exact form was not available.
    """
    chex.assert_equal_shape([stage_rewards, passed])
    gates = jnp.asarray(passed, jnp.result_type(stage_rewards, jnp.float32))
    gates = jnp.concatenate([jnp.ones_like(gates[..., :1]), gates[..., :-1]], axis=-1)
    reached = jnp.cumprod(gates, axis=-1)
    return jax.lax.stop_gradient(jnp.sum(reached * select(stage_rewards, reached), axis=-1))


@at_least_float32
def soft_threshold_reward(
    rewards: Array, *, threshold: Scalar = 0.8, compress: Scalar = 0.01, expand: Scalar = 1.0
) -> Array:
    """Differences above a threshold made small and those far below it made large.

    With τ the threshold: τ + compress·ln(1 + r − τ) from τ up, and τ − (e^{expand·(τ − r)} −
    1)/(e^expand − 1) below: continuous, increasing, and τ − 1 at r = τ − 1.

    Made for groups whose last member is the label itself, so that its high reward does not outshine
    the others; `anchored_advantage` is the other way.

    Args:
      rewards: of each sequence, `[...]`.
      threshold: τ, in units of reward.
      compress: slope just above τ.
      expand: curvature below τ, above 0.

    Returns:
      The shaped rewards, `[...]`.

    Source: TempSamp-R1 (arXiv 2509.18056), equation 4, whose constants are the defaults.
    """
    above = jnp.log1p(jnp.maximum(rewards - threshold, 0.0))
    below = jnp.expm1(expand * jnp.maximum(threshold - rewards, 0.0)) / jnp.expm1(expand)
    return jax.lax.stop_gradient(threshold + compress * above - below)


@at_least_float32
def gaussian_score_reward(score: Array, target: Array, *, sigma: Scalar) -> Array:
    """How near a score is to its target: exp(−(s − s*)²/(2σ²)), 1 where they are equal.

    Args:
      score: s, `[...]`.
      target: s*, `[...]`, or one number for all.
      sigma: σ, above 0, in units of the score.

    Returns:
      The reward, `[...]`, in [0, 1].

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after OmniQuality-R (arXiv 2510.10609); the paper's exact form and its σ were not
    available.
    """
    if jnp.ndim(target):
        chex.assert_equal_shape([score, target])
    return jax.lax.stop_gradient(jnp.exp(-0.5 * jnp.square((score - target) / sigma)))


@at_least_float32
def information_gain(prob_of_truth: Array) -> Array:
    """Reward of a turn: by how much it raised the probability of the truth, p_t − p_{t−1}.

    p is exp of the mean log-probability, per token, of the true answer after each turn; the caller
    makes it. Where the last turn is paid with the outcome, that takes the place of its gain.

    Args:
      prob_of_truth: p, `[..., T]`, in [0, 1]; the first before any turn that is paid.

    Returns:
      The gains, `[..., T − 1]`; they add up to the last p less the first.

    Source: IGPO (arXiv 2510.14967).
    """
    return jax.lax.stop_gradient(jnp.diff(prob_of_truth, axis=-1))


@at_least_float32
def set_scores(returns: Array, labels: Array, subsets: Array) -> Array:
    """Score of sets of trajectories, high if they are good and different.

    f = mean return · (number of distinct labels/n) of the n trajectories of the set.

    Args:
      returns: of N trajectories from one state, `[..., N]`, in [0, 1].
      labels: what two trajectories have in common if they count as the same, integer, `[..., N]`.
      subsets: indices of the members of M sets of n, integer, `[M, n]`.

    Returns:
      The scores, `[..., M]`, in [0, 1].

    Raises:
      AssertionError: returns and labels differ in shape, or subsets has not two axes.

    Source: Polychromic objectives (arXiv 2509.25424); there N = 8, n = 4 and M = 4.
    """
    chex.assert_equal_shape([returns, labels])
    chex.assert_rank(subsets, 2)
    ordered = jnp.sort(labels[..., subsets], axis=-1)
    distinct = 1 + jnp.sum(ordered[..., 1:] != ordered[..., :-1], axis=-1)
    scores = jnp.mean(returns[..., subsets], axis=-1) * distinct / subsets.shape[-1]
    return jax.lax.stop_gradient(scores)


@at_least_float32
def set_advantage(returns: Array, labels: Array, subsets: Array) -> Array:
    """Advantage of a trajectory: how much better than the mean its sets are by `set_scores`.

    A_set = f − mean over the M sets of f; a trajectory has the mean of the A_set of its sets.

    Args:
      returns: of N trajectories from one state, `[..., N]`, in [0, 1].
      labels: what two trajectories have in common if they count as the same, integer, `[..., N]`.
      subsets: indices of the members of M sets of n, integer, `[M, n]`, each at most once in a set.

    Returns:
      The advantages, `[..., N]`; 0 for a trajectory in no set, and for all where the sets score the
      same.

    Raises:
      AssertionError: returns and labels differ in shape, or subsets has not two axes.

    Source: Polychromic objectives (arXiv 2509.25424), where a trajectory has the advantage of the
    set that contains it; the mean over several sets is ours.
    """
    of_set = centred(set_scores(returns, labels, subsets))
    of_member = jnp.broadcast_to(of_set[..., None], (*of_set.shape, subsets.shape[-1]))
    zeros = jnp.zeros(returns.shape, of_set.dtype)
    total = zeros.at[..., subsets].add(of_member)
    return jax.lax.stop_gradient(safe_divide(total, zeros.at[..., subsets].add(1.0)))


@at_least_float32
def fused_ranking_reward(
    scores: Array, target: Array, *, weight: Scalar = 0.05, cutoff: Scalar = 1000
) -> Array:
    """Reward of a recommendation: discounted rank of the true item, and a little of its softmax.

    (1 − weight)·[rank ≤ cutoff]/log₂(rank + 1) + weight·softmax(scores)_target, where rank is 1 +
    the number of items with a higher score.

    Args:
      scores: of every item, `[..., V]`, in nats.
      target: index of the true item, integer, `[...]`, in [0, V).
      weight: of the softmax, in [0, 1].
      cutoff: last rank that is rewarded.

    Returns:
      The reward, `[...]`, in [0, 1].

    Raises:
      AssertionError: target has another shape than scores without its last axis.

    Source: RecPO of R²ec (arXiv 2505.16994). What its released code calls leave-one-out is r·(1 +
    1/n) − mean; `leave_one_out` is the one of RLOO.
    """
    target = jnp.asarray(target)
    softmax = jnp.exp(categorical_log_prob(target, scores))
    own = jnp.take_along_axis(scores, target[..., None], axis=-1)
    rank = 1 + jnp.sum(scores > own, axis=-1)
    gain = jnp.where(rank <= cutoff, 1.0 / jnp.log2(rank + 1.0), 0.0)
    return jax.lax.stop_gradient((1.0 - weight) * gain + weight * softmax)


def _share_of_subsets(like: Array, k: int, given: int) -> Array:
    """C(i − given, k − given)/C(n, k) for the ranks i = 1..n, the last axis of `like`."""
    n = like.shape[-1]
    choices = [math.comb(i - given, k - given) if i >= given <= k else 0 for i in range(1, n + 1)]
    shares = jnp.asarray([each / math.comb(n, k) for each in choices])
    return jnp.broadcast_to(shares.astype(jnp.result_type(like, jnp.float32)), like.shape)


def _sum_above(x: Array) -> Array:
    """Per place of the last axis, the sum over the places behind it."""
    return jax.lax.cumsum(x, axis=x.ndim - 1, reverse=True) - x


def _uniform_around_0(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)
