"""Aversion to risk, by any algorithm: an environment whose rewards are those of a risk measure."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .augmented import AugmentedActions
from .base import Environment, EnvState, Observation, Step


class RiskAverseState(NamedTuple):
    """The state of `RiskAverse`.

    Attributes:
      env_state: of the inner environment.
      threshold: η, that the agent chose for the coming cost.
      first: bool, whether no step of the episode was taken.
    """

    env_state: EnvState
    threshold: chex.Array
    first: chex.Array


class RiskAverse(AugmentedActions):
    """An environment in which the agent minimises expected conditional risk measures of its costs
    c = −reward, ρ = (1 − λ)·E + λ·CVaR, period by period:

        c_1 + Σ_{t ≥ 2} γ^(t−1)·E[ρ(c_t | what was before)].

    CVaR_α(c) = min_η η + E[(c − η)₊]/α is the mean of the worst α; its η for the coming period is a
    further entry of the action, and the reward becomes minus

        (1 − λ)·c + (λ/α)·(c − η)₊ + γ·λ·η',   of the first period c + γ·λ·η',

    where η was chosen before and η' is chosen now. Where an episode terminates the costs that
    follow are 0, and so (γ·λ/α)·(−η')₊ is added: a low η' would pay else. This is nested, and so
    consistent in time; it is not the CVaR of the return. The untouched reward is
    `info["reward"]`: evaluate without the wrapper.

    Source: Yu and Ying, ICML 2023, "On the Global Convergence of Risk-Averse Policy Gradient
    Methods with Expected Conditional Risk Measures"; the form of the costs is derived from the
    definition of the measure.

    Args:
      env: the inner environment, see `AugmentedActions`.
      lam: λ in [0, 1]; 0 is the expectation alone. May be traced.
      tail: α in (0, 1], the probability of the tail; 1 is the expectation alone. May be traced.
      gamma: γ of the algorithm, which discounts the costs.
      low: the lowest η, in units of cost: the lowest cost of a step, and at most 0 where episodes
        terminate, after which the cost is 0.
      high: the highest; at least 0 where episodes terminate.

    Raises:
      ValueError: a number is outside of its range, or the spaces do not fit.
    """

    def __init__(
        self,
        env: Environment,
        *,
        lam: float | chex.Array,
        tail: float | chex.Array = 0.1,
        gamma: float | chex.Array = 0.99,
        low: float,
        high: float,
    ):
        for name, value, allowed in (
            ("lam", lam, lambda x: 0.0 <= x <= 1.0),
            ("tail", tail, lambda x: 0.0 < x <= 1.0),
            ("gamma", gamma, lambda x: 0.0 <= x <= 1.0),
        ):
            if not isinstance(value, jax.core.Tracer) and not allowed(float(value)):
                raise ValueError(f"{name}={value}: must be in [0, 1], and tail above 0")
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"low={low}, high={high}: must be finite, and low below high")
        one = np.ones(1, np.float32)
        super().__init__(env, low * one, high * one, -one, one)
        self.lam, self.tail, self.gamma, self.low, self.high = lam, tail, gamma, low, high

    def reset(self, key: chex.PRNGKey) -> tuple[RiskAverseState, Observation]:
        """Starts an episode; the first period's cost has no threshold."""
        env_state, obs = self.env.reset(key)
        threshold = jnp.float32(0.5 * (self.low + self.high))
        state = RiskAverseState(env_state, threshold, jnp.bool_(True))
        return state, self._seen(obs, threshold)

    def step(
        self, key: chex.PRNGKey, state: RiskAverseState, action: chex.Array
    ) -> tuple[RiskAverseState, Step]:
        """Advances by one step, and keeps the last entry of the action as the next threshold."""
        inner, (threshold,) = self.split(action)
        env_state, result = self.env.step(key, state.env_state, inner)
        cost = risk_cost(
            -result.reward,
            state.threshold,
            threshold,
            state.first,
            result.terminated,
            lam=self.lam,
            tail=self.tail,
            gamma=self.gamma,
        )
        result = result._replace(
            obs=self._seen(result.obs, threshold),
            reward=-cost,
            info=result.info | {"reward": result.reward},
        )
        return RiskAverseState(env_state, threshold, jnp.bool_(False)), result

    def inner_state(self, state: RiskAverseState) -> EnvState:
        """The inner environment's state in that of this one."""
        return state.env_state

    def _seen(self, obs, threshold):
        scaled = (2.0 * threshold - (self.low + self.high)) / (self.high - self.low)
        return self.join(obs, scaled[None])


def risk_cost(
    cost: chex.Array,
    threshold: chex.Array,
    next_threshold: chex.Array,
    first: chex.Array,
    terminated: chex.Array,
    *,
    lam: float | chex.Array,
    tail: float | chex.Array,
    gamma: float | chex.Array,
) -> chex.Array:
    """The cost of a step under `RiskAverse`, `[...]`.

    Args:
      cost: c, `[...]`.
      threshold: η that was chosen for it, `[...]`.
      next_threshold: η' that is chosen for the next one, `[...]`.
      first: whether it is the first of the episode, bool `[...]`.
      terminated: whether the episode terminates with it, bool `[...]`.
      lam: λ.
      tail: α.
      gamma: γ.

    Returns:
      What the negative reward is, `[...]`.

    Source: as of `RiskAverse`.
    """
    weight = lam / tail
    measured = (1.0 - lam) * cost + weight * jnp.maximum(cost - threshold, 0.0)
    after = jnp.where(terminated, gamma * weight * jnp.maximum(-next_threshold, 0.0), 0.0)
    return jnp.where(first, cost, measured) + gamma * lam * next_threshold + after


def conditional_value_at_risk(
    values: chex.Array, probs: chex.Array, *, tail: float | chex.Array
) -> tuple[chex.Array, chex.Array]:
    """CVaR_α of a cost that takes finitely many values: min_η η + E[(c − η)₊]/α, the mean of the
    worst α.

    Args:
      values: the costs, `[..., n]`.
      probs: their probabilities, `[..., n]`, which add up to 1.
      tail: α in (0, 1]; 1 gives the expectation.

    Returns:
      (CVaR, the η that attains it), both `[...]`; η is one of the values, of several the first.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Rockafellar and Uryasev 2000, theorem 1.
    """
    chex.assert_equal_shape([values, probs])
    excess = jnp.maximum(values[..., None, :] - values[..., :, None], 0.0)
    measures = values + jnp.sum(probs[..., None, :] * excess, axis=-1) / tail
    best = jnp.argmin(measures, axis=-1, keepdims=True)
    found = (jnp.take_along_axis(x, best, axis=-1)[..., 0] for x in (measures, values))
    return tuple(found)
