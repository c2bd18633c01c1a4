"""R²VPO (arXiv 2601.03320), for control: PPO with a penalty on the variance of the ratio, and a
multiplier that holds it at a target.

One `step` is as in PPO. The loss is that of `losses.sequences.surrogates.ratio_variance_loss`; the
multiplier takes a step of `losses.sequences.penalties.dual_step` after each gradient step. The form
of the dual, its step size and the target are ours: the paper's were not available, and its own
experiments are on language models. With dual_step_size = 0 the weight is fixed. Differs from PPO's
published code as PPO does here.
"""

from functools import partial
from typing import Any

import chex
import jax.numpy as jnp

from .. import losses
from ..losses.sequences import penalties, surrogates
from .core import parallel
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.gradient_steps import Companion
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
    """Hyperparameters of R²VPO."""

    initial_dual: float = traced(1.0, "λ, the weight of the ratio's variance, at the start.", low=0)
    target_variance: float = traced(0.02, "The mean of (ratio − 1)² that λ is to hold.", above=0)
    dual_step_size: float = traced(
        0.5, "Change of λ per gradient step for a unit above the target.", low=0
    )


def start_dual(params: Any, config: Config) -> chex.Array:
    """λ at the start of a run."""
    del params
    return jnp.array(config.initial_dual, jnp.float32)  # a buffer of its own


def move_dual(dual: chex.Array, params: Any, metrics: Metrics, config: Config) -> chex.Array:
    """λ after a minibatch with these (ratio − 1)², `[B]`."""
    del params
    variance = parallel.mean(jnp.mean(metrics["losses/ratio_variance"]))
    return penalties.dual_step(
        dual, variance, target=config.target_variance, step_size=config.dual_step_size
    )


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
    each sample. The companion is λ.
    """
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    policy_loss = surrogates.ratio_variance_loss(
        log_prob - minibatch.log_prob, advantage, coef=companion
    )
    value_loss = policy_gradient.value_loss(params, minibatch, networks=networks, config=config)
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/value_loss": value_loss,
        "losses/entropy": entropy,
        "losses/ratio_variance": jnp.square(losses.ratio_deviation(log_prob, minibatch.log_prob)),
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy), metrics


COMPANION = Companion(start_dual, move_dual, metrics=lambda dual: {"charts/dual": dual})
init_learner = partial(policy_gradient.init_learner, companion=COMPANION)
update = partial(policy_gradient.update, objectives={"losses/grad_norm": loss}, companion=COMPANION)
make = loop.maker(Config, update, init_learner)
