"""One store that orders for an unknown demand, `inventory/store`: differentiable, with a known
optimum.

What is ordered arrives lead_time periods later. Where demand that is not met waits (the default),
no policy has a lower cost per period than ordering up to one level, `base_stock`.
"""

import inspect
import math
from statistics import NormalDist
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from .base import Step
from .options import checked
from .spaces import Box


def names() -> list[str]:
    """The names of the inventory tasks."""
    return ["store"]


def make(name: str, **options) -> "Store":
    """Makes the task.

    Args:
      name: one of `names()`.
      **options: those of `Store`.

    Raises:
      ValueError: there is no such option, or it has a value that is not allowed.
    """
    low = {"lead_time": 1, "episode_length": 1, "holding_cost": 1e-6, "shortage_cost": 1e-6}
    low |= {"demand_mean": 1e-6, "demand_std": 1e-6}
    defaults = {each.name: each.default for each in inspect.signature(Store).parameters.values()}
    return Store(**defaults | checked(f"inventory/{name}", options, defaults, low=low))


def base_stock(
    demand_mean: float,
    demand_std: float,
    lead_time: int,
    *,
    holding_cost: float,
    shortage_cost: float,
) -> tuple[float, float]:
    """The best level to order up to, and its cost per period, where unmet demand waits.

    With F the distribution of the demand of lead_time + 1 periods, S* = F⁻¹(p/(p + h)). For
    Gaussian demand S* = (L + 1)μ + k·√(L + 1)·σ with k = Φ⁻¹(p/(p + h)), and the cost is
    (h + p)·√(L + 1)·σ·φ(k). Demand that is clipped at 0 differs a little.

    Args:
      demand_mean: μ, units per period.
      demand_std: σ, units.
      lead_time: L, periods.
      holding_cost: h, per unit and period.
      shortage_cost: p, per unit and period.

    Returns:
      (S*, in units of stock on hand and ordered; cost per period).

    Source: Alvo et al. 2023 (arXiv 2306.11246), the setting with backlogged demand; Scarf 1960.
    """
    normal = NormalDist()
    quantile = normal.inv_cdf(shortage_cost / (shortage_cost + holding_cost))
    spread = math.sqrt(lead_time + 1) * demand_std
    cost = (holding_cost + shortage_cost) * spread * normal.pdf(quantile)
    return (lead_time + 1) * demand_mean + quantile * spread, cost


def period(
    stock: chex.Array,
    order: chex.Array,
    demand: chex.Array,
    *,
    holding_cost: float | chex.Array,
    shortage_cost: float | chex.Array,
    lost_sales: bool,
) -> tuple[chex.Array, chex.Array]:
    """One period: the demand is met, what is left costs, and what was ordered moves on.

    Args:
      stock: `[..., L]`, on hand (below 0 what is owed), then what arrives in one period, in two, ….
      order: `[...]`, units, which arrive in L periods.
      demand: `[...]`, units.
      holding_cost: h, per unit that is left.
      shortage_cost: p, per unit that was asked for and not there.
      lost_sales: whether unmet demand is lost, instead of waiting.

    Returns:
      (stock after the period, `[..., L]`; its cost, `[...]`).

    Source: Alvo et al. 2023 (arXiv 2306.11246) and its released code.
    """
    left = stock[..., 0] - demand
    cost = holding_cost * jnp.maximum(left, 0.0) + shortage_cost * jnp.maximum(-left, 0.0)
    left = jnp.maximum(left, 0.0) if lost_sales else left
    pipeline = jnp.concatenate([stock[..., 1:], order[..., None]], axis=-1)
    pipeline = pipeline.at[..., 0].add(left)
    return pipeline, cost


class StoreState(NamedTuple):
    """Stock on hand and on its way, `[L]`, and the periods of this episode, int32."""

    stock: chex.Array
    time: chex.Array


class Store:
    """One store; the action is the order of a period, which is given before its demand is known.

    The reward is minus the cost of the period. Observations are the stock on hand and on its way,
    `[L]`, divided by the mean demand. An episode begins with a stock, and orders on their way, that
    are uniform between 0 and the mean demand, as released, and is truncated. Demand is Gaussian and
    clipped at 0. Orders are at most S*, see `base_stock`, which is enough for the best policy but
    where much is owed.

    Args:
      lead_time: L, periods until an order arrives, at least 1.
      demand_mean: μ, units per period.
      demand_std: σ, units.
      holding_cost: h, per unit and period.
      shortage_cost: p, per unit and period.
      lost_sales: whether unmet demand is lost, instead of waiting; then the optimum is not known.
      episode_length: periods after which an episode is truncated.
    """

    def __init__(
        self,
        lead_time: int = 4,
        demand_mean: float = 5.0,
        demand_std: float = 1.6,
        holding_cost: float = 1.0,
        shortage_cost: float = 9.0,
        lost_sales: bool = False,
        episode_length: int = 50,
    ):
        self._costs = {"holding_cost": holding_cost, "shortage_cost": shortage_cost}
        self._demand = demand_mean, demand_std
        self._lost_sales = lost_sales
        self._episode_length = episode_length
        self.lead_time = lead_time
        self.level, self.best_cost = base_stock(*self._demand, lead_time, **self._costs)
        self.observation_space = Box(-jnp.inf, jnp.inf, (lead_time,))
        self.action_space = Box(0.0, self.level, (1,))

    def reset(self, key: chex.PRNGKey):
        """Starts an episode."""
        stock = self._demand[0] * jax.random.uniform(key, (self.lead_time,))
        return StoreState(stock, jnp.int32(0)), self._observation(stock)

    def step(self, key: chex.PRNGKey, state: StoreState, action: chex.Array):
        """Orders, and meets the demand of the period."""
        mean, std = self._demand
        demand = jnp.maximum(mean + std * jax.random.normal(key), 0.0)
        stock, cost = period(
            state.stock, action[0], demand, lost_sales=self._lost_sales, **self._costs
        )
        time = state.time + 1
        step = Step(
            obs=self._observation(stock),
            reward=-cost,
            terminated=jnp.bool_(False),
            truncated=time >= self._episode_length,
            info={},
        )
        return StoreState(stock, time), step

    def order_up_to(self, level: float | chex.Array, obs: chex.Array) -> chex.Array:
        """The action of the policy that orders up to a level, `[..., 1]`, from observations."""
        position = jnp.sum(obs, axis=-1, keepdims=True) * self._demand[0]
        return jnp.clip(level - position, 0.0, self.level)

    def _observation(self, stock):
        return stock / self._demand[0]
