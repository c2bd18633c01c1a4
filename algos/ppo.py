"""Proximal Policy Optimization (Schulman et al., 2017, arXiv 1707.06347), the clipped objective.

One `step` is one rollout of num_envs·num_steps environment steps, and update_epochs·num_minibatches
gradient steps. Differs from the published code (OpenAI baselines ppo2, CleanRL) in that an episode
that was cut by a time limit is bootstrapped from its true final observation, that the learning rate
also anneals in code that is vmapped, and that the value loss is not clipped unless vf_clip_eps is
set.
"""

from functools import partial
from typing import Any

import chex
import jax.numpy as jnp

from .. import losses
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.policy_gradient import Learner, Minibatch, init_learner

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
    """Hyperparameters of PPO."""

    clip_eps: float = traced(
        0.2, "Half-width of the interval of ratios that are not clipped.", above=0
    )


def loss(
    params: Any, minibatch: Minibatch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[chex.Array, Metrics]:
    """Policy loss + vf_coef · value loss − ent_coef · entropy, averaged to a scalar, and metrics of
    each sample.
    """
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    policy_loss = losses.ppo_clip_loss(
        log_prob, minibatch.log_prob, advantage, clip_eps=config.clip_eps
    )
    value_loss = policy_gradient.value_loss(params, minibatch, networks=networks, config=config)
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/value_loss": value_loss,
        "losses/entropy": entropy,
        "losses/clip_fraction": losses.clip_fraction(
            log_prob, minibatch.log_prob, clip_eps=config.clip_eps
        ),
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy), metrics


update = partial(policy_gradient.update, objectives={"losses/grad_norm": loss})
make = loop.maker(Config, update)
