"""Which prompts to draw, how many rollouts each deserves, and schedules."""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32, descending_rank, group_std

Array = chex.Array
Scalar = float | Array


@at_least_float32
def beta_update(
    alpha: Array,
    beta: Array,
    successes: Array,
    failures: Array,
    *,
    decay: Scalar,
    prior_alpha: Scalar = 1.0,
    prior_beta: Scalar = 1.0,
) -> tuple[Array, Array]:
    """A Beta posterior of each prompt's success rate that forgets: decay·α + (1 − decay)·α₀ + s.

    Args:
      alpha: α of each prompt, `[...]`, successes so far and the prior's.
      beta: β of each prompt, `[...]`, failures so far and the prior's.
      successes: s, new successes, `[...]`, 0 for prompts that were not drawn.
      failures: new failures, `[...]`.
      decay: how much of the past is kept, in [0, 1], a scalar or of each prompt, `[...]`; 1 counts
        everything for ever, and without data each update is a step towards the prior.
      prior_alpha: α₀, above 0.
      prior_beta: β₀, above 0.

    Returns:
      (alpha, beta), both `[...]` with stopped gradients.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: MoPPS (arXiv 2507.04632), with decay 0.5; in its released code a conditional binds so
    that α and β are 8 wherever a prompt has one rollout. Two decays, one for the prompts just
    sampled and one for all others, are after VADE (arXiv 2511.18902); the paper's exact form was
    not available.
    """
    chex.assert_equal_shape([alpha, beta, successes, failures])
    alpha = decay * alpha + (1.0 - decay) * prior_alpha + successes
    beta = decay * beta + (1.0 - decay) * prior_beta + failures
    return jax.lax.stop_gradient((alpha, beta))


@at_least_float32
def thompson_success(key: chex.PRNGKey, alpha: Array, beta: Array) -> Array:
    """Draws a success rate of each prompt from its posterior, Beta(α, β).

    Args:
      key: for the draw.
      alpha: α, `[...]`, above 0.
      beta: β, `[...]`, above 0.

    Returns:
      The rates, `[...]`, in [0, 1], with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: MoPPS (arXiv 2507.04632), as VADE (arXiv 2511.18902).
    """
    chex.assert_equal_shape([alpha, beta])
    alpha, beta = (jax.lax.stop_gradient(jnp.asarray(x)) for x in (alpha, beta))
    dtype = jnp.result_type(alpha, beta, jnp.float32)
    return jax.random.beta(key, alpha, beta, dtype=dtype)


@at_least_float32
def prompt_informativeness(p: Array) -> Array:
    """The variance of one answer's success: p·(1 − p), largest at ½.

    Its order of prompts is that of −(p − ½)².

    Args:
      p: success rate of each prompt, `[...]`, known or drawn by `thompson_success`.

    Returns:
      The variance, `[...]`, with stopped gradient.

    Source: VADE (arXiv 2511.18902) ranks by it, MoPPS (arXiv 2507.04632) by the distance to ½.
    """
    return jax.lax.stop_gradient(p * (1.0 - p))


@at_least_float32
def top_prompts(score: Array, *, num: int) -> Array:
    """The places of the num prompts of highest score, best first.

    Args:
      score: of each prompt, `[..., N]`, as −(p − ½)² or `prompt_informativeness`.
      num: how many, static, from 1 to N.

    Returns:
      The places, int32, `[..., num]`; of equal scores the first comes first.

    Raises:
      ValueError: num is out of range.

    Source: MoPPS (arXiv 2507.04632).
    """
    if not 1 <= num <= score.shape[-1]:
        raise ValueError(f"num={num}: must be from 1 to the number of prompts, {score.shape[-1]}")
    return jnp.argsort(-score, axis=-1)[..., :num].astype(jnp.int32)


@at_least_float32
def curriculum_update(
    values: Array, mean_abs_advantage: Array, visited: Array, *, step_size: Scalar = 0.1
) -> Array:
    """How much there is to learn from each category: Q + step_size·(mean|A| − Q) where visited.

    Categories are then drawn from softmax(Q/τ), as `bandits.value_steering` gives it.

    Args:
      values: Q of each category, `[..., K]`, in units of advantage.
      mean_abs_advantage: mean |A| over the category's samples, `[..., K]`; anything, NaN too, where
        there were none.
      visited: whether there were any, bool (or 0/1), `[..., K]`.
      step_size: in [0, 1].

    Returns:
      The new values, `[..., K]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: SEC (arXiv 2505.14970), which has τ = 1.
    """
    chex.assert_equal_shape([values, mean_abs_advantage, visited])
    target = jnp.where(jnp.asarray(visited, bool), mean_abs_advantage, values)
    return jax.lax.stop_gradient(values + step_size * (target - values))


@at_least_float32
def rollout_value(num: Array, success: Array) -> Array:
    """What num rollouts of a prompt are worth: (1 − pⁿ − (1 − p)ⁿ)·p·(1 − p)².

    The first factor is the probability that they do not all end alike, the others are what the
    gradient then gains.

    Args:
      num: n, rollouts of each prompt, at least 1, a scalar or `[...]`.
      success: p, success rate of each prompt, `[...]`, in [0, 1].

    Returns:
      The value, `[...]`, with stopped gradient; 0 where p is 0 or 1.

    Raises:
      AssertionError: num is no scalar and differs from success in shape.

    Source: Knapsack RL (arXiv 2509.25849).
    """
    if jnp.ndim(num):
        chex.assert_equal_shape([num, success])
    p = success
    return jax.lax.stop_gradient((1.0 - p**num - (1.0 - p) ** num) * p * (1.0 - p) ** 2)


@at_least_float32
def allocate_rollouts(success: Array, *, budget: int, low: int, high: int) -> Array:
    """The numbers of rollouts n, low ≤ n ≤ high and Σ n = budget, of highest Σ `rollout_value`.

    What one more rollout adds, p·(1 − p)²·(pⁿ·(1 − p) + (1 − p)ⁿ·p), falls with n: the best is to
    give the rollouts, one by one, where they add most. A prompt of p 0 or 1 gets low, unless there
    is too much for the others.

    Args:
      success: p, success rate of each prompt, `[..., N]`, in [0, 1].
      budget: rollouts of the N prompts, static, from N·low to N·high.
      low: fewest of a prompt, static, 0 or more; by the formula a first rollout adds p·(1 − p)².
      high: most of a prompt, static.

    Returns:
      The numbers, int32, `[..., N]`; of equal solutions the one with the fewest for the first
      prompt, then the second, and so on.

    Raises:
      ValueError: no such numbers exist.

    Source: Knapsack RL (arXiv 2509.25849), which solves the same problem by dynamic programming.
    """
    prompts = success.shape[-1]
    if not 0 <= low <= high or not prompts * low <= budget <= prompts * high:
        raise ValueError(
            f"budget={budget}, low={low}, high={high}: must be 0 <= low <= high and, for {prompts}"
            f" prompts, {prompts * low} <= budget <= {prompts * high}"
        )
    p = success[..., ::-1, None]  # the last prompt first, which equal gains then go to
    n = jnp.arange(low, high).reshape((1,) * success.ndim + (high - low,))
    gain = p * (1.0 - p) ** 2 * (p**n * (1.0 - p) + (1.0 - p) ** n * p)
    rank = descending_rank(gain.reshape(*success.shape[:-1], prompts * (high - low)))
    chosen = (rank < budget - prompts * low).reshape(gain.shape)
    extra = jnp.sum(chosen, axis=-1, dtype=jnp.int32)
    return low + extra[..., ::-1]


@at_least_float32
def dead_groups(rewards: Array, *, threshold: Scalar = 0.0) -> Array:
    """The groups that teach nothing: std ≤ threshold.

    Args:
      rewards: of each sample of a group, `[..., G]`.
      threshold: the largest standard deviation (of G − 1) of a group that counts as dead.

    Returns:
      bool, `[...]`; a group of one is dead.

    Source: after VSPO (arXiv 2512.07478); the paper's exact form was not available.
    """
    return group_std(rewards) <= threshold


@at_least_float32
def replacement_prompts(key: chex.PRNGKey, dead: Array, value: Array) -> Array:
    """New prompts for the dead groups, drawn without replacement in proportion to their value.

    Args:
      key: for the draw.
      dead: which of the batch's places need one, bool (or 0/1), `[N]`, as `dead_groups` gives it.
      value: of each prompt of the pool, `[P]`, not negative: p·(1 − p) for how hard it is, plus the
        posterior's standard deviation for how unsure that is. A prompt of value 0 is not drawn.

    Returns:
      The places in the pool, int32, `[N]`; −1 where the group is not dead, or no prompt is left.

    Raises:
      AssertionError: dead or value has more than one axis.

    Source: after VSPO (arXiv 2512.07478); the paper's exact form was not available, and its
    value-smoothing clipping, which is nowhere defined, is left out.
    """
    chex.assert_rank([dead, value], 1)
    dead = jnp.asarray(dead, bool)
    lot = jnp.where(value > 0, jnp.log(value) + jax.random.gumbel(key, value.shape), -jnp.inf)
    turn = jnp.cumsum(dead) - 1
    left = dead & (turn < jnp.sum(value > 0))
    drawn = jnp.argsort(-lot)[jnp.minimum(turn, value.size - 1)]
    return jnp.where(left, drawn, -1).astype(jnp.int32)


@at_least_float32
def linear_schedule(progress: Array, *, start: Scalar, end: Scalar) -> Array:
    """From start to end in a line: (1 − progress)·start + progress·end.

    Args:
      progress: share of the training that is done, in [0, 1], a scalar or `[...]`.
      start: the value at progress 0, a scalar or `[...]`.
      end: the value at progress 1, as start.

    Returns:
      The value, `[...]`.

    Source: the definition; D³S (arXiv 2509.22115) has one for the size of its subset and one for
    its share of tokens.
    """
    return (1.0 - progress) * start + progress * end


@at_least_float32
def cosine_ramp(step: Array, *, steps: Scalar) -> Array:
    """From 0 to 1 along half a cosine, then 1: ½(1 − cos(π·min(step/steps, 1))).

    Args:
      step: updates done, `[...]`.
      steps: updates until the ramp is at 1; 200 to 300 in SPEAR.

    Returns:
      The value, `[...]`, in [0, 1].

    Source: SPEAR (arXiv 2509.22601): the coefficient of its imitation of itself, and 1 minus it
    that of its reward for tools.
    """
    return 0.5 * (1.0 - jnp.cos(jnp.pi * jnp.minimum(step / steps, 1.0)))
