"""Critics that regress to an expectile of their target, annealed to its mean: what annealed
Q-learning adds to TD3 and SAC.
"""

from functools import partial
from typing import Any, Self

import chex
import jax.numpy as jnp

from ... import losses
from ..core.algorithm import Metrics
from ..core.config import configclass, traced
from .actor_critic import Batch, Learner, update_critics
from .config import OffPolicyConfig
from .networks import Networks


@configclass
class ExpectileConfig(OffPolicyConfig):
    """What algorithms with an annealed expectile have in common."""

    expectile: float = traced(
        0.9,
        "τ at the start: the weight of a critic below its target, of both sides together 1.",
        low=0.5,
        high=0.999,
    )
    final_expectile: float = traced(
        0.5, "τ at the end of annealing; ½ is the mean.", low=0.5, high=0.999
    )
    anneal_fraction: float = traced(
        1.0, "Part of total_steps over which τ falls linearly.", above=0, high=1
    )

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The expectile when this part of total_steps is done, and the learning rate if that is
        annealed.
        """
        part = jnp.minimum(done / self.anneal_fraction, 1.0)
        expectile = self.expectile + (self.final_expectile - self.expectile) * part
        return super().schedules(done) | {"expectile": expectile}

    def annealed(self, iteration: chex.Array) -> Self:
        """The config with the expectile of an iteration, and its learning rate."""
        expectile = self.schedules(self.done(iteration))["expectile"]
        return super().annealed(iteration).replace(expectile=expectile)


def update_expectile_critics(
    learner: Learner,
    batch: Batch,
    target: chex.Array,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: ExpectileConfig,
    scale: float = 1.0,
) -> tuple[Learner, Metrics]:
    """`update_critics` with `losses.expectile_td_loss` at the expectile of the moment."""

    def regression(q, target):
        loss = losses.expectile_td_loss(q, target, expectile=config.expectile)
        return loss, q, q - target

    learner, metrics = update_critics(
        learner,
        batch,
        target,
        key,
        networks=networks,
        config=config,
        regression=regression,
        scale=scale,
    )
    return learner, metrics | {"charts/expectile": jnp.asarray(config.expectile, jnp.float32)}


update_soft_expectile_critics = partial(update_expectile_critics, scale=0.5)
