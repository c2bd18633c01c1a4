"""Mirror Descent Policy Optimization, on-policy (Tomar et al., ICLR 2022, arXiv 2005.09814).

The policy maximises its advantage minus KL(π‖π_old)/t, approximately: by policy_steps gradient
steps on the whole rollout. The step size t falls from step_size to 0 over total_steps, and is held
at min_step_size. The value network has its own optimiser and its own passes. One `step` is one
rollout of num_envs·num_steps environment steps, policy_steps gradient steps of the policy and
update_epochs·num_minibatches of the value network.

Differs from the released code in that t starts at step_size and not one iteration above, in that it
is bounded below (1/t has no limit), in that an episode that was cut by a time limit is bootstrapped
from its true final observation, and in that the value loss is not clipped unless vf_clip_eps is set
(released: 0.2). The published sizes are 2048 steps of one environment, 10 policy steps and 5 passes
of minibatches of 128, with normalised observations and rewards.
"""

from typing import Any

import chex
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, require_at_most, static, traced
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, policy_gradient
from .on_policy.config import OnPolicyConfig
from .on_policy.policy_gradient import Learner, Minibatch, init_learner
from .on_policy.policy_gradient import value_objective as value_loss

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "policy_loss",
    "update",
    "value_loss",
]


@configclass
class Config(OnPolicyConfig):
    """Hyperparameters of on-policy MDPO."""

    step_size: float = traced(
        1.0, "t, the inverse weight of the divergence from the old policy, at the start.", above=0
    )
    min_step_size: float = traced(0.01, "Where t stops falling.", above=0)
    anneal_step_size: bool = static(True, "Whether t falls linearly over total_steps.")
    policy_steps: int = static(
        10, "Gradient steps of the policy on the whole rollout; m in the paper.", low=1
    )
    update_epochs: int = static(5, "Passes over a rollout that the value network takes.", low=1)
    num_minibatches: int = static(
        16, "Minibatches that a rollout is cut into for the value network.", low=1
    )
    vf_coef: float = traced(
        0.5, "Weight of the value loss; matters only where its gradient is clipped.", low=0
    )
    anneal_lr: bool = False

    PASSES = ("policy_steps", "update_epochs")

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_at_most(self, "min_step_size", "step_size")

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The learning rate and the step size when this part of total_steps is done, if they are
        annealed.
        """
        remaining = 1.0 - done if self.anneal_step_size else 1.0
        return super().schedules(done) | {
            "step_size": jnp.maximum(self.step_size * remaining, self.min_step_size)
        }

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """(epochs, minibatches) of the policy and of the value network."""
        return ((self.policy_steps, 1), (self.update_epochs, self.num_minibatches))


def policy_loss(
    params: Any, minibatch: Minibatch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[chex.Array, Metrics]:
    """Policy loss − ent_coef · entropy, averaged to a scalar, and metrics of each sample."""
    distribution, log_prob, advantage = policy_gradient.evaluate(
        params, minibatch, networks=networks, config=config
    )
    kl = networks.head.kl(distribution, minibatch.distribution)
    policy_loss = losses.mdpo_on_policy_loss(
        log_prob, minibatch.log_prob, advantage, kl, step_size=config.step_size
    )
    entropy = networks.head.entropy(key, distribution)
    metrics = {
        "losses/policy_loss": policy_loss,
        "losses/entropy": entropy,
        "losses/kl": kl,
        **policy_gradient.drift_metrics(log_prob, minibatch.log_prob),
    }
    return jnp.mean(policy_loss - config.ent_coef * entropy), metrics


def update(
    learner: Learner, batch: Transition, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """`policy_gradient.update`: first the policy with the step size of the moment, then the value
    network.
    """
    step_size = config.schedules(policy_gradient.progress(learner, batch, config))["step_size"]
    learner, metrics = policy_gradient.update(
        learner,
        batch,
        key,
        networks=networks,
        config=config.replace(step_size=step_size),
        objectives={"losses/policy_grad_norm": policy_loss, "losses/value_grad_norm": value_loss},
    )
    return learner, metrics | {"charts/step_size": step_size}


make = loop.maker(Config, update)
