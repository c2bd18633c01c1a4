"""Action Value Gradient (AVG; Vasan et al., NeurIPS 2024, "Deep Policy Gradient Methods Without
Batch Updates, Target Networks, or Replay Buffers", arXiv 2411.15370): an incremental soft
actor-critic that learns from each transition once, when it is met.

What makes it stable are three normalisations, each of which can be taken away: of the observations
(`normalize_obs`), of the last hidden layer of both networks to length 1 (`normalize_features`), and
of the TD error by its scale (`scale_td_error`). Without them it is SAC with one critic, no target,
no replay and a fixed temperature.

One `step` is num_steps environment steps, after each of which come one gradient step of the actor
and one of the critic, both from the parameters before. The actor's is taken at the action that was
executed. Differs from the released code in that an episode which a time limit cuts ends its return
too, in the scale of the TD error. The defaults are the published ones for Ant, HalfCheetah and
Humanoid; step sizes are tuned by task there.
"""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core import normalize
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static, traced
from .core.networks import MLP, actor_space, make_torso
from .off_policy import soft, streaming, td_scale
from .off_policy.actor_critic import gradient_step
from .off_policy.networks import ActionCritic, Networks, SquashedGaussianActor, apply_first
from .off_policy.streaming import Learner, StreamingConfig, init_learner

__all__ = [
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(StreamingConfig):
    """Hyperparameters of AVG."""

    learning_rate: float = 6.3e-3
    critic_learning_rate: float = traced(8.7e-3, "Step size of Adam, for the critic.", above=0)
    adam_b1: float = traced(0.0, "β₁ of Adam, of both.", low=0, high=0.9999)
    alpha: float = traced(0.07, "The temperature, in units of return per nat.", low=0)
    normalize_features: bool = static(
        True, "Whether the last hidden layer of both networks is scaled to length 1."
    )
    scale_td_error: bool = static(True, "Whether the TD error is divided by its scale.")

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of "actor" or "critic"."""
        rate = self.critic_learning_rate if name == "critic" else self.learning_rate
        return optax.adam(rate, b1=self.adam_b1)


def unit_length(x: chex.Array) -> chex.Array:
    """x/‖x‖ along the last axis; 0 stays 0."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""

    def features(layers):
        return nn.Sequential([layers, unit_length]) if config.normalize_features else layers

    same = config.activation, config.initialiser
    actor_layers = features(make_torso(actor_space(env), config.actor_hidden_sizes, *same))
    critic_layers = features(MLP(config.critic_hidden_sizes, *same))
    actor = SquashedGaussianActor(
        actor_layers, env.action_space.shape[0], (-20.0, 2.0), config.initialiser, smooth=False
    )
    return Networks(actor, ActionCritic(critic_layers, 1, config.initialiser))


def learn(
    learner: Learner,
    transition: Transition,
    noise: chex.Array,
    *,
    networks: Networks,
    config: Config,
) -> tuple[Learner, Metrics]:
    """A gradient step of the actor and one of the critic.

    Args:
      learner: whose statistics have seen transition.obs.
      transition: a step of N environments, leaves `[N, ...]`; gradients are means over them.
      noise: standard normal, `[2, N, d]`: what the action was drawn with, and what one at the
        successor is.
      networks: the networks.
      config: the hyperparameters.
    """
    obs, next_obs = (normalize.obs(learner, x) for x in (transition.obs, transition.next_obs))
    alpha, params = config.alpha, learner.params
    discount = config.gamma * (1.0 - transition.terminated)
    # The scale of the TD error, with this transition.
    done = transition.terminated | transition.truncated
    reward = losses.soft_reward(transition.reward, transition.log_prob, alpha=alpha)
    scale = td_scale.update(learner.td_scale, reward, discount, done)
    sigma = td_scale.value(scale) if config.scale_td_error else jnp.float32(1.0)
    # The target, by the parameters before both steps.
    next_action, next_log_prob = soft.squash(
        networks.actor.apply(params["actor"], next_obs), noise[1]
    )
    next_q = apply_first(networks.critic, params["critic"], next_obs, next_action)
    target = losses.sac_target(transition.reward, discount, next_q, next_log_prob, alpha=alpha)

    def actor_loss(actor):
        action, log_prob = soft.squash(actor(obs), noise[0])
        q = apply_first(networks.critic, params["critic"], obs, action)
        loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        return loss, {"losses/actor_loss": loss, "losses/entropy": -jnp.mean(log_prob)}

    def critic_loss(critics):
        q = critics(obs, transition.action)[0]
        error = losses.scaled_td_error(q, target, jnp.broadcast_to(sigma, q.shape))
        loss = jnp.mean(jnp.square(error))
        return loss, {"losses/critic_loss": loss, "losses/q": jnp.mean(q)}

    step = partial(gradient_step, networks=networks, config=config)
    learner, metrics = step(learner, "actor", actor_loss)
    learner, critic_metrics = step(learner, "critic", critic_loss)
    metrics |= critic_metrics | {"charts/td_scale": sigma}
    return learner._replace(td_scale=scale), metrics


update = partial(streaming.update, learn=learn)
make = streaming.maker(Config, make_networks, learn)
