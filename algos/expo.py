"""EXPO (Dong et al., 2025, arXiv 2507.07986): SAC whose policy is the best of what a cloned flow
does and of edits of it.

The base is a flow that imitates all actions of the replay, data's and own. The actor edits: it sees
observation and action, and adds up to ±edit_scale to it; it learns as SAC's does, at the replay's
actions. What acts, and what the critics' target is at, is chosen on the fly: num_samples actions of
the base, num_edits of which are edited too, and the best of all by the smallest target critic. The
target has no entropy. With num_edits=0 and num_samples=1 it is cloning, and the critics of the
clone.

One `step` is as in SAC, with one update of base, actor and temperature per policy_delay critic
updates. Begin with data: `make(..., data=, data_share=0.5)` takes half of each minibatch from them.
Read in a copy of the published code. Differs from it in that the base is a flow and not DDPM, that
the entropy that the temperature holds is by default −d/2 + d·log(edit_scale) and not −d/2 (which
edits of less than ±0.3 cannot have, so that the temperature would rise for ever), that what acts
takes the smallest of all critics, that learning rates are constant, and by default in sizes (there
10 critics and 20 updates per step).
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Policy, Transition
from .core.config import configclass, require_at_most, static, traced
from .core.heads import Gaussian
from .core.networks import VECTOR, actor_obs, sample_obs
from .off_policy import actor_critic, flow, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.config import OffPolicyConfig
from .off_policy.flow import FlowConfig
from .off_policy.networks import (
    SquashedGaussianActor,
    action_critic,
    apply_ensemble,
    torso,
)
from .off_policy.soft import TemperatureConfig

__all__ = [
    "Batch",
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
class Config(FlowConfig, OffPolicyConfig, TemperatureConfig):
    """Hyperparameters of EXPO."""

    num_updates: int = 4
    policy_delay: int = 4
    layer_norm: bool = True
    num_samples: int = static(8, "Actions of the base to choose from.", low=1)
    num_edits: int = static(8, "How many of them are edited too.", low=0)
    edit_scale: float = traced(
        0.2, "The furthest that an edit moves an entry of the action.", low=0.01, high=2
    )
    target_critics: int = static(
        2, "Critics of which the target takes the smallest, drawn for each update.", low=1
    )
    base_tau: float = traced(
        0.001, "Weight of the new parameters in the base's target, which acts.", above=0, high=1
    )
    target_entropy: float = traced(
        float("inf"),
        "The edits' entropy that the temperature holds, in nats; inf stands for −d/2 +"
        " d·log(edit_scale).",
        high=float("inf"),
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, that actions are continuous, and that
        observations are vectors.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_at_most(self, "num_edits", "num_samples")
        require_at_most(self, "target_critics", "num_critics")


class EditActor(nn.Module):
    """(observations, actions) to a `Gaussian` before a tanh; without actions, those of 0."""

    policy: nn.Module
    size: int

    @nn.compact
    def __call__(self, obs: Any, action: Any = None) -> Gaussian:
        obs = actor_obs(obs)
        action = jnp.zeros((*obs.shape[:-1], self.size)) if action is None else action
        return self.policy(jnp.concatenate([obs, action], axis=-1))


class Networks(NamedTuple):
    """An actor that edits, a critic, and a base: a velocity, see `core.generative.Field`."""

    actor: nn.Module
    critic: nn.Module
    base: nn.Module
    optimiser: Any = None

    @staticmethod
    def inputs(obs: Any, action: chex.Array) -> dict[str, tuple]:
        """What actor and base see, by name; without an action they see observations alone too."""
        return {"actor": (obs, action), "base": (obs, action, jnp.zeros(action.shape[:-1]))}


def make_networks(env: Environment, config: Config) -> Networks:
    """Actor, critic and base, as the config says."""
    size = env.action_space.shape[0]
    layers = torso(VECTOR, config.actor_hidden_sizes, config)
    edit = SquashedGaussianActor(layers, size, (-5.0, 2.0), config.initialiser)
    return Networks(EditActor(edit, size), action_critic(config), flow.make_field(env, config))


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """As SAC's, with a base and its target."""
    key, base_key = jax.random.split(key)
    return actor_critic.init_learner(
        key,
        env=env,
        networks=networks,
        config=config,
        targets=("critic", "base"),
        log_alpha=jnp.log(jnp.asarray(config.initial_alpha, jnp.float32)),
        base=networks.base.init(base_key, sample_obs(env)),
    )


def acting(learner: Learner, config: Config) -> dict[str, Any]:
    """The actor, the targets of base and critics, and the hyperparameters."""
    return learner.params | learner.targets | {"config": config}


class Noise(NamedTuple):
    """What an on-the-fly policy is drawn by: standard normal, of base actions `[B, num_samples, d]`
    and of edits `[B, num_edits, d]`.
    """

    base: chex.Array
    edit: chex.Array


def draw_noise(key: chex.PRNGKey, lead: tuple[int, ...], size: int, config: Config) -> Noise:
    """Fresh noise."""
    base_key, edit_key = jax.random.split(key)
    return Noise(
        jax.random.normal(base_key, (*lead, config.num_samples, size)),
        jax.random.normal(edit_key, (*lead, config.num_edits, size)),
    )


def best_action(
    networks: Networks, params: dict[str, Any], obs: Any, noise: Noise
) -> tuple[chex.Array, chex.Array]:
    """The on-the-fly policy: the best of base and edited actions and its value, `[B, d]` and `[B]`.

    Args:
      networks: the networks.
      params: as `acting` gives them.
      obs: `[B, ...]`.
      noise: that it is drawn by.
    """
    config = params["config"]

    def base(noise):
        return flow.sample(networks.base, params["base"], obs, noise, config.flow_steps)

    def edited(action, noise):
        distribution = networks.actor.apply(params["actor"], obs, action)
        edit = soft.squash(distribution, noise)
        return losses.expo_edit(action, *edit, edit_scale=config.edit_scale)[0]

    def value(action):
        return apply_ensemble(networks.critic, params["critic"], obs, action)

    actions = jax.vmap(base, in_axes=1, out_axes=1)(noise.base)
    if config.num_edits:
        edits = jax.vmap(edited, in_axes=1, out_axes=1)(actions[:, : config.num_edits], noise.edit)
        actions = jnp.concatenate([actions, edits], axis=1)
    action, best, _ = losses.expo_choice(actions, jax.vmap(value, in_axes=1, out_axes=-1)(actions))
    return action, best


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the value of the on-the-fly policy; then their
    targets follow.
    """
    noise_key, drawn_key, step_key = jax.random.split(key, 3)
    params = acting(learner, config)
    if config.target_critics < config.num_critics:
        order = jax.random.permutation(drawn_key, config.num_critics)[: config.target_critics]
        params |= {"critic": jax.tree.map(lambda x: x[order], params["critic"])}
    noise = draw_noise(noise_key, batch.reward.shape, batch.action.shape[-1], config)
    _, next_q = best_action(networks, params, batch.next_obs, noise)
    target = losses.bootstrapped_target(batch.reward, batch.discount, next_q)
    learner, metrics = soft.update_soft_critics(
        learner, batch, target, step_key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the base towards the replay's actions, one of the actor up the soft mean
    of the critics at edits of these, and one of the temperature; then the base's target follows.
    """
    base_key, edit_key, step_key = jax.random.split(key, 3)
    options = {"networks": networks, "config": config}
    learner, base_metrics = flow.imitate(learner, "base", batch, base_key, **options)
    learner = actor_critic.update_target(learner, "base", config, config.base_tau)
    alpha = jnp.exp(learner.params["log_alpha"])

    def loss(actor):
        edit = soft.sample_action(actor(batch.obs, batch.action), edit_key)
        action, log_prob = losses.expo_edit(batch.action, *edit, edit_scale=config.edit_scale)
        q = apply_ensemble(networks.critic, learner.params["critic"], batch.obs, action)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, jnp.mean(q, axis=0), alpha=alpha))
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics

    learner, metrics = actor_critic.gradient_step(learner, "actor", loss, step_key, **options)
    automatic = batch.action.shape[-1] * (jnp.log(config.edit_scale) - 0.5)
    target = jnp.where(jnp.isinf(config.target_entropy), automatic, config.target_entropy)
    learner, alpha_metrics = soft.update_temperature(
        learner,
        batch,
        -metrics["losses/entropy"],
        networks=networks,
        config=config.replace(target_entropy=target),
    )
    return learner, base_metrics | metrics | alpha_metrics


def make_policy(env: Environment, networks: Networks) -> Policy:
    """The on-the-fly policy; without exploring, by the same noise at every observation, and the
    modes of the edits.
    """
    size = env.action_space.shape[0]

    def explore(params, memory, obs, key):
        noise = draw_noise(key, actor_obs(obs).shape[:-1], size, params["config"])
        return best_action(networks, params, obs, noise)[0], (), memory

    def act(params, memory, obs):
        lead = actor_obs(obs).shape[:-1]
        fixed = draw_noise(jax.random.key(0), (1,), size, params["config"])
        fixed = fixed._replace(edit=jnp.zeros_like(fixed.edit))
        noise = jax.tree.map(lambda x: jnp.broadcast_to(x, (*lead, *x.shape[1:])), fixed)
        return best_action(networks, params, obs, noise)[0], memory

    return Policy(explore, act)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy, acting=acting)
