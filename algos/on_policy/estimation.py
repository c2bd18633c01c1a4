"""From a rollout to what the losses see: scaled rewards, values, advantages, minibatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ..core import normalize, recurrent
from ..core.collect import Transition
from ..core.networks import Networks, features, remember
from .config import OnPolicyConfig


class Minibatch(NamedTuple):
    """What a loss sees; every leaf `[B, ...]`, and `[T, B, ...]` where networks remember.

    Attributes:
      obs: normalised, if the config says so; a `Sequence` where networks remember, and features
        where they have a torso.
      action: as the head stores it.
      log_prob: under the policy that collected, in nats.
      distribution: what the policy put out before the first gradient step.
      value: of obs under the parameters before the first gradient step.
      advantage: as estimated by `losses.gae`, not normalised.
      target: the return to regress the value to.
    """

    obs: Any
    action: chex.Array
    log_prob: chex.Array
    distribution: Any
    value: chex.Array
    advantage: chex.Array
    target: chex.Array


def _scale_rewards(learner, batch, config):
    """Rewards as the losses see them, and the return statistics with them.

    Rewards are scaled by statistics that include them: with those from before, the first rollout
    would be learned from unscaled. For all advantages of an update the scale is one, so that it
    does not touch the ratio.
    """
    reward = batch.reward * config.reward_scale
    if not config.normalize_reward:
        return reward, (), ()

    def step(discounted_return, inputs):
        reward, done = inputs
        discounted_return = config.gamma * discounted_return + reward
        return jnp.where(done, 0.0, discounted_return), discounted_return

    done = batch.terminated | batch.truncated
    discounted_return, returns = jax.lax.scan(step, learner.discounted_return, (reward, done))
    statistics = normalize.update(learner.return_statistics, returns)
    return normalize.scale(statistics, reward), statistics, discounted_return


def seen(batch: Transition, obs: Any, next_obs: Any, networks: Networks) -> tuple[Any, Any]:
    """What the networks see of a rollout's observations and their true successors: them, or a
    `Sequence` each where networks remember.

    The successor is seen with the memory of the step that led to it.
    """
    if not remember(networks):
        return obs, next_obs
    start = recurrent.begins(batch.terminated | batch.truncated)
    sequence = recurrent.Sequence(obs, start, batch.memory)
    return sequence, sequence._replace(next_obs=next_obs)


def values_of(
    learner: Any, obs: Any, next_obs: Any, networks: Networks
) -> tuple[chex.Array, chex.Array]:
    """Values of observations and of their successors, both `[T, N]`."""

    params = learner.params

    def value(obs):
        return networks.value.apply(params["value"], features(networks, params, obs))

    if remember(networks):
        return value(obs), value(next_obs)
    return value(jax.tree.map(lambda x, y: jnp.stack([x, y]), obs, next_obs))


def estimate(
    learner: Any,
    batch: Transition,
    networks: Networks,
    config: OnPolicyConfig,
    *,
    values_of: Callable[..., tuple[chex.Array, chex.Array]] = values_of,
) -> tuple[Minibatch, tuple[Any, Any, Any]]:
    """The rollout as minibatch material, `[T·N, ...]`, or `[T, N, ...]` where networks remember;
    and the statistics after it. `values_of` is how observations are valued.
    """
    obs, next_obs = normalize.obs(learner, batch.obs), normalize.obs(learner, batch.next_obs)
    obs, next_obs = seen(batch, obs, next_obs, networks)
    values, next_values = values_of(learner, obs, next_obs, networks)
    reward, return_statistics, discounted_return = _scale_rewards(learner, batch, config)
    advantages, targets = losses.gae(
        reward,
        values,
        next_values,
        batch.terminated,
        batch.truncated,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    distribution = networks.policy.apply(
        learner.params["policy"], features(networks, learner.params, obs)
    )
    data = Minibatch(obs, batch.action, batch.log_prob, distribution, values, advantages, targets)
    if not remember(networks):
        data = jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:]), data)
    obs_statistics = normalize.obs_statistics(learner, batch.obs)
    return data, (obs_statistics, return_statistics, discounted_return)


def take(data: Minibatch, indices: chex.Array) -> Minibatch:
    """A minibatch: rows of all transitions, `[T·N, ...]`, or whole environments of sequences,
    `[T, N, ...]`.
    """
    if not isinstance(data.obs, recurrent.Sequence):
        return jax.tree.map(lambda x: x[indices], data)
    memory = jax.tree.map(lambda x: x[indices], data.obs.memory)
    taken = jax.tree.map(lambda x: x[:, indices], data._replace(obs=data.obs._replace(memory=())))
    return taken._replace(obs=taken.obs._replace(memory=memory))
