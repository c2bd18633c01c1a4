"""PPO-EWMA (Hilton et al., NeurIPS 2022, arXiv 2110.00641): PPO that stays close to an average of
its own past weights, and not to the policy that collected.

The average moves after every gradient step of the policy, so that data may be older than it:
`staleness` shows it. One `step` is as in PPO. `Config.for_batch_smaller_by` is the paper's rule for
smaller batches. Differs from the released code as PPO does here, and in that advantages are
normalised in each minibatch and not over the rollout. The published sizes are γ 0.999, learning
rate 5e-4, 1 pass of 8 minibatches, entropy bonus 0.01.
"""

from functools import partial
from typing import Any, Self

import chex
import jax.numpy as jnp

from .. import losses
from .core import averaging
from .core.algorithm import Metrics
from .core.averaging import Average
from .core.collect import Transition
from .core.config import configclass, traced
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.gradient_steps import Companion, Series
from .on_policy.policy_gradient import Learner, Minibatch

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "init_learner",
    "loss",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(OnPolicyConfig):
    """Hyperparameters of PPO-EWMA."""

    clip_eps: float = traced(
        0.2, "Half-width of the interval of ratios that are not clipped.", above=0, high=0.99
    )
    proximal_decay: float = traced(
        0.889, "Decay of the average of the weights, per gradient step.", low=0, high=1
    )
    max_ratio: float = traced(
        100.0,
        "The largest ratio to the policy that collected; inf does not bound it.",
        low=1,
        high=float("inf"),
    )

    def for_batch_smaller_by(self, factor: float) -> Self:
        """The hyperparameters that fit a batch that is smaller by this factor, as it is without
        them; sizes are left to the caller.

        Adam's steps are shorter by √factor, and the average looks back over factor times as many
        of them: its centre of mass is decay/(1 − decay). A decay of 1 stays what it is.

        Source: Hilton et al. 2022, the rule for Adam.
        """
        centre = factor * self.proximal_decay
        decay = centre / (centre + 1.0 - self.proximal_decay)
        rate = self.learning_rate / factor**0.5
        return self.replace(learning_rate=rate, proximal_decay=decay)


def start_average(params: Any, config: Config) -> Average:
    """The first parameters, which count as one."""
    del config
    return averaging.start(params)


def move_average(average: Average, params: Any, metrics: Metrics, config: Config) -> Average:
    """With the parameters after another gradient step."""
    del metrics
    return averaging.move(average, params, config.proximal_decay)


def proximal_log_prob(average: Average, minibatch: Minibatch, series: Series) -> chex.Array:
    """log π(a|s) under the average, `[B]`."""
    params, minibatch = series.seen(average.params, minibatch)
    distribution = series.networks.policy.apply(params["policy"], minibatch.obs)
    return series.networks.head.log_prob(minibatch.action, distribution)


def loss(
    params: Any,
    minibatch: Minibatch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: Config,
    companion: chex.Array,
) -> tuple[chex.Array, Metrics]:
    """Policy loss + vf_coef · value loss − ent_coef · entropy, averaged to a scalar, and metrics of
    each sample. The companion is log π(a|s) under the proximal policy, `[B]`.
    """
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    policy_loss = losses.ppo_ewma_loss(
        log_prob,
        minibatch.log_prob,
        companion,
        advantage,
        clip_eps=config.clip_eps,
        max_ratio=config.max_ratio,
    )
    value_loss = policy_gradient.value_loss(params, minibatch, networks=networks, config=config)
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/value_loss": value_loss,
        "losses/entropy": entropy,
        "losses/clip_fraction": losses.clip_fraction(log_prob, companion, clip_eps=config.clip_eps),
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy), metrics


COMPANION = Companion(start_average, move_average, proximal_log_prob)
init_learner = partial(policy_gradient.init_learner, companion=COMPANION)
update = partial(policy_gradient.update, objectives={"losses/grad_norm": loss}, companion=COMPANION)
make = loop.maker(Config, update, init_learner)
