"""CDSA-lite: after CDSA (Liu et al., 2024, arXiv 2406.07541), a correction of any policy's actions
towards where the data are dense.

A score network learns, by denoising, the gradient of the log-density of (observation, action) in
the data, and an inverse model which action led from one observation to the next. An action is
corrected by num_corrections steps up the score of the action, and then by what the inverse model
says of a step up the score of the observation, I(s, s + obs_step·score) − I(s, s). The paper was
read in outlines: that it has these parts is known, how it combines and scales them is not. The
order here, all scales and the single level of the noise are ours, hence the name.

What acts is a clone of the data, corrected; `corrected` does the same to another algorithm. With
action_step = 0 and inverse_weight = 0 both are as without. One `step` is num_updates updates; there
are no critics.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core import normalize
from .core.algorithm import Algorithm, Metrics
from .core.collect import Policy, Transition
from .core.config import ConfigError, configclass, static, traced
from .core.generative import ascend
from .core.initialisers import dense
from .core.networks import VECTOR, actor_obs, actor_space, sample_obs
from .off_policy import actor_critic, deterministic, offline
from .off_policy.acting import with_config
from .off_policy.actor_critic import Batch, Learner
from .off_policy.networks import DeterministicActor, torso
from .off_policy.offline import OfflineConfig

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "corrected",
    "init_learner",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(OfflineConfig):
    """Hyperparameters of CDSA-lite; those of critics are not used."""

    policy_delay: int = static(1, "Must be 1: there are no critics.", low=1, high=1)
    sigma: float = traced(
        0.1, "Standard deviation of the noise that is taken away, of normalised numbers.", above=0
    )
    num_corrections: int = static(3, "Steps up the score of the action.", low=1)
    action_step: float = traced(0.003, "Length of these steps, in units of the score.", low=0)
    obs_step: float = traced(0.003, "Length of the step up the observation's score.", low=0)
    inverse_weight: float = traced(1.0, "Weight of what the inverse model says of it.", low=0)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, that actions are continuous, and that
        observations are vectors.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        shape = actor_obs(env.observation_space).shape
        if len(shape) != 1:
            allowed = "must be a vector: it is denoised together with the action"
            raise ConfigError("env.observation_space", shape, allowed)


class Denoiser(nn.Module):
    """(observations `[..., n]`, actions `[..., d]`) to the noise in both, `[..., n + d]`, in units
    of its standard deviation.
    """

    torso: nn.Module
    size: int
    initialiser: str = "uniform"

    @nn.compact
    def __call__(self, obs: Any, action: chex.Array) -> chex.Array:
        x = jnp.concatenate([actor_obs(obs), action], axis=-1)
        return dense(self.size, self.initialiser)(self.torso(x).astype(jnp.float32))


class Inverse(nn.Module):
    """(observations, next ones) to the actions between them, `[..., d]`."""

    policy: nn.Module

    @nn.compact
    def __call__(self, obs: Any, next_obs: Any) -> chex.Array:
        return self.policy(jnp.concatenate([actor_obs(obs), actor_obs(next_obs)], axis=-1))


class Networks(NamedTuple):
    """A clone as the actor, no critic, a `Denoiser` and an `Inverse`."""

    actor: nn.Module
    critic: None
    score: nn.Module
    inverse: nn.Module
    optimiser: Any = None

    @staticmethod
    def inputs(obs: Any, action: chex.Array) -> dict[str, tuple]:
        """What score and inverse model see, by name."""
        return {"score": (obs, action), "inverse": (obs, obs)}


def make_networks(env: Environment, config: Config) -> Networks:
    """All three with the actor's widths, as the config says."""
    space, size = actor_space(env), env.action_space.shape[0]
    layers = [torso(VECTOR, config.actor_hidden_sizes, config) for _ in range(3)]
    return Networks(
        DeterministicActor(layers[0], size, config.initialiser),
        None,
        Denoiser(layers[1], space.shape[0] + size, config.initialiser),
        Inverse(DeterministicActor(layers[2], size, config.initialiser)),
    )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters of all three, optimisers and statistics."""
    key, score_key, inverse_key = jax.random.split(key, 3)
    obs, action = sample_obs(env), jnp.zeros(env.action_space.shape)
    return actor_critic.init_learner(
        key,
        env=env,
        networks=networks,
        config=config,
        targets=(),
        score=networks.score.init(score_key, obs, action),
        inverse=networks.inverse.init(inverse_key, obs, obs),
    )


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step each of the clone and of the inverse model towards the data's actions, and
    one of the score.
    """
    noise_key, *step_keys = jax.random.split(key, 4)
    step = partial(actor_critic.gradient_step, networks=networks, config=config)
    x = jnp.concatenate([actor_obs(batch.obs), batch.action], axis=-1)
    noise = jax.random.normal(noise_key, x.shape)
    sigma = jnp.broadcast_to(config.sigma, batch.reward.shape)
    obs, action = _split(losses.generative.noised(x, noise, sigma), batch.action.shape[-1])

    def score_loss(network):
        score = losses.generative.noise_score(network(obs, action), sigma)
        loss = jnp.mean(losses.generative.score_matching_loss(score, noise, sigma))
        return loss, {"losses/score_loss": loss}

    def actor_loss(network):
        loss = jnp.mean(losses.bc_loss(network(batch.obs), batch.action))
        return loss, {"losses/actor_loss": loss}

    def inverse_loss(network):
        loss = jnp.mean(losses.bc_loss(network(batch.obs, batch.next_obs), batch.action))
        return loss, {"losses/inverse_loss": loss}

    metrics = {}
    each = {"score": score_loss, "actor": actor_loss, "inverse": inverse_loss}
    for (name, loss), step_key in zip(each.items(), step_keys, strict=True):
        learner, found = step(learner, name, loss, step_key)
        metrics |= found
    return learner, metrics


def _split(x, size):
    return x[..., :-size], x[..., -size:]


def correct(networks: Networks, params: dict[str, Any], obs: Any, action: chex.Array) -> chex.Array:
    """Actions `[..., d]` in [−1, 1] after the correction.

    Args:
      networks: the networks.
      params: theirs, and the hyperparameters under "config".
      obs: as the networks see them, `[..., n]`.
      action: what is corrected.
    """
    config, obs = params["config"], actor_obs(obs)
    sigma = jnp.broadcast_to(config.sigma, action.shape[:-1])

    def score(action):
        noise = networks.score.apply(params["score"], obs, action)
        return _split(losses.generative.noise_score(noise, sigma), action.shape[-1])

    def inverse(next_obs):
        return networks.inverse.apply(params["inverse"], obs, next_obs)

    action = ascend(
        lambda action: score(action)[1],
        action,
        step_size=config.action_step,
        num_steps=config.num_corrections,
    )
    aside = inverse(obs + config.obs_step * score(action)[0]) - inverse(obs)
    return jnp.clip(action + config.inverse_weight * aside, -1.0, 1.0)


def corrected(algorithm: Algorithm, state: offline.State, networks: Any = None) -> Algorithm:
    """An algorithm that learns as before and whose actions are corrected, for evaluations too.

    Args:
      algorithm: any with continuous actions on the same environment.
      state: a State of CDSA-lite, trained on the data.
      networks: its networks, if they are own ones.
    """
    space = algorithm.env.action_space
    networks = make_networks(algorithm.env, state.config) if networks is None else networks
    params = with_config(state.learner, state.config)

    def act(of, obs, key, deterministic, memory=None):
        out = algorithm.act(of, obs, key, deterministic, memory)
        action, *rest = (out,) if memory is None else out
        seen = normalize.obs(state.learner, obs)
        action = space.from_unit(correct(networks, params, seen, space.to_unit(action)))
        return action if memory is None else (action, *rest)

    return algorithm._replace(act=act)


def make_policy(env: Environment, networks: Networks) -> Policy:
    """The clone, corrected. It acts by `acting.with_config`."""
    clone = deterministic.quiet_policy(env, networks)

    def act(params, memory, obs):
        action, memory = clone.act(params, memory, obs)
        return correct(networks, params, obs, action), memory

    def explore(params, memory, obs, key):
        del key
        action, memory = act(params, memory, obs)
        return action, (), memory

    return Policy(explore, act)


update = partial(
    actor_critic.update, critic_update=actor_critic.no_update, actor_update=actor_update
)
make = offline.maker(Config, make_networks, init_learner, update, make_policy, acting=with_config)
