"""A2PR, adaptive advantage-guided policy regularisation (Liu et al., 2024, arXiv 2405.19909):
TD3+BC with a goal that is the better of the data's action and that of a variational autoencoder
which learns the data's good actions, and with no pull where neither has an advantage.

Beside actor and critics there are a value and the autoencoder. One `step` is num_updates updates of
critics, autoencoder and value, and one of the actor per policy_delay of them. Differs from the
published code in what `algos.td3_bc` says, in that the actor's update sees the value after its step
and not before it, and in that actor and critics have two hidden layers by default where it has
three and four of the same width. The autoencoder's advantages are of the value from before its
step, as there.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core import parallel
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static, traced
from .core.initialisers import dense
from .core.networks import VECTOR, Value, actor_obs, actor_space, critic_space, sample_obs
from .off_policy import actor_critic, deterministic, offline
from .off_policy.actor_critic import Batch, Learner, gradient_step
from .off_policy.networks import (
    DeterministicActor,
    action_critic,
    apply_ensemble,
    apply_first,
    smallest,
    torso,
)
from .off_policy.offline import OfflineConfig

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
class Config(OfflineConfig):
    """Hyperparameters of A2PR."""

    policy_delay: int = 2
    alpha: float = traced(2.5, "Weight of Q beside the distance from the goal.", low=0)
    mask: float = traced(1.0, "Weight of the distance where there is an advantage.", low=0)
    vae_weight: float = traced(1.0, "Weight of the reconstruction.", low=0)
    vae_learning_rate: float = traced(1e-3, "Step size of Adam, for the autoencoder.", above=0)
    vae_hidden_sizes: tuple[int, ...] = static(
        (750, 750), "Widths of the hidden layers of encoder and decoder.", low=1
    )
    policy_noise: float = traced(0.2, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of a set of parameters."""
        return optax.adam(self.vae_learning_rate) if name == "vae" else super().optimiser(name)


class Autoencoder(nn.Module):
    """(observations, actions, noise `[..., 2d]`) to a reconstruction in [−1, 1]^d, and mean and
    log_std of the latent, `[..., 2d]`.
    """

    encoder: nn.Module
    decoder: nn.Module
    size: int
    initialiser: str = "uniform"

    @nn.compact
    def __call__(self, obs: Any, action: chex.Array, noise: chex.Array) -> Any:
        obs = actor_obs(obs).reshape(*action.shape[:-1], -1)
        hidden = self.encoder(jnp.concatenate([obs, action], -1)).astype(jnp.float32)
        both = dense(4 * self.size, self.initialiser)(hidden)
        mean, log_std = jnp.split(both, 2, axis=-1)
        log_std = jnp.clip(log_std, -4.0, 15.0)
        latent = mean + jnp.exp(log_std) * noise
        hidden = self.decoder(jnp.concatenate([obs, latent], -1)).astype(jnp.float32)
        return jnp.tanh(dense(self.size, self.initialiser)(hidden)), mean, log_std


class Networks(NamedTuple):
    """Actor and critic as elsewhere, a value network, and the autoencoder."""

    actor: nn.Module
    critic: nn.Module
    value: nn.Module
    vae: nn.Module
    optimiser: Any = None

    @staticmethod
    def inputs(obs: Any, action: chex.Array) -> dict[str, tuple]:
        """What the autoencoder sees, by name."""
        return {"vae": (obs, action, jnp.zeros((*action.shape[:-1], 2 * action.shape[-1])))}


def make_networks(env: Environment, config: Config) -> Networks:
    """Actor, critic, value network and autoencoder, as the config says."""
    size = env.action_space.shape[0]
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    value_layers = torso(critic_space(env), config.critic_hidden_sizes, config)
    encoder, decoder = (torso(VECTOR, config.vae_hidden_sizes, config) for _ in range(2))
    return Networks(
        DeterministicActor(layers, size, config.initialiser),
        action_critic(config),
        Value(value_layers, config.initialiser),
        Autoencoder(encoder, decoder, size, config.initialiser),
    )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters of all networks, targets of actor and critics, optimisers and statistics."""
    key, value_key, vae_key = jax.random.split(key, 3)
    obs = sample_obs(env)
    size = env.action_space.shape[0]
    more = {
        "value": networks.value.init(value_key, obs),
        "vae": networks.vae.init(vae_key, obs, jnp.zeros(size), jnp.zeros(2 * size)),
    }
    options = {"env": env, "networks": networks, "config": config, "targets": ("actor", "critic")}
    return actor_critic.init_learner(key, **options, **more)


def _noise(key, action):
    return jax.random.normal(key, (*action.shape[:-1], 2 * action.shape[-1]), jnp.float32)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the clipped double-Q target, one of the value and
    one of the autoencoder.
    """
    action_key, critic_key, value_key, vae_key, noise_key = jax.random.split(key, 5)
    step = partial(gradient_step, networks=networks, config=config)
    value_before = networks.value.apply(learner.params["value"], batch.obs)
    actor, critic = learner.targets["actor"], learner.targets["critic"]
    next_action = deterministic.smoothed_action(
        networks.actor, actor, batch.next_obs, action_key, config
    )

    def next_q(critic):
        return smallest(apply_ensemble(networks.critic, critic, batch.next_obs, next_action))

    target_q = next_q(critic)
    target = losses.bootstrapped_target(batch.reward, batch.discount, target_q)
    learner, metrics = actor_critic.update_critics(
        learner, batch, target, critic_key, networks=networks, config=config
    )
    value_target = losses.a2pr_value_target(
        batch.reward, batch.discount, target_q, next_q(learner.params["critic"])
    )

    def value_loss(value):
        loss = jnp.mean(losses.squared_td_loss(value(batch.obs), value_target))
        return loss, {"losses/value_loss": loss}

    learner, value_metrics = step(learner, "value", value_loss, value_key)
    q = apply_first(networks.critic, learner.params["critic"], batch.obs, batch.action)

    def vae_loss(vae):
        reconstruction = vae(batch.obs, batch.action, _noise(noise_key, batch.action))
        each = losses.a2pr_vae_loss(
            reconstruction[0],
            batch.action,
            *reconstruction[1:],
            q,
            value_before,
            weight=config.vae_weight,
        )
        loss = jnp.mean(each)
        return loss, {"losses/vae_loss": loss}

    learner, vae_metrics = step(learner, "vae", vae_loss, vae_key)
    return learner, metrics | value_metrics | vae_metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic and towards the better action; then all
    targets follow. `losses/vae_share` is how often that is the autoencoder's.
    """
    params = learner.params
    q_of = partial(apply_first, networks.critic, params["critic"], batch.obs)
    value = networks.value.apply(params["value"], batch.obs)
    data_q = q_of(batch.action)
    noise_key, step_key = jax.random.split(key)

    def loss(actor):
        action = actor(batch.obs)
        noise = _noise(noise_key, action)
        vae_action, _, _ = networks.vae.apply(params["vae"], batch.obs, action, noise)
        q, vae_q = q_of(action), q_of(vae_action)
        goal = losses.a2pr_goal(batch.action, vae_action, data_q, vae_q)
        pull = losses.a2pr_pull(value, data_q, vae_q, mask=config.mask)
        weight = losses.behaviour_weight(parallel.gathered(q), alpha=config.alpha)
        actor_loss = jnp.mean(losses.a2pr_actor_loss(q, action, goal, pull, weight=weight))
        share = jnp.mean(jnp.asarray(vae_q >= data_q, jnp.float32))
        return actor_loss, {"losses/actor_loss": actor_loss, "losses/vae_share": share}

    learner, metrics = gradient_step(
        learner, "actor", loss, step_key, networks=networks, config=config
    )
    learner = actor_critic.update_target(learner, "critic", config)
    return actor_critic.update_target(learner, "actor", config), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = offline.maker(Config, make_networks, init_learner, update, deterministic.quiet_policy)
