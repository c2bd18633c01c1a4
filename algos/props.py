"""PROPS (Corrado and Hanna 2023, "On-Policy Policy Gradient Reinforcement Learning Without
On-Policy Sampling", arXiv 2311.08290): PPO on data of a behaviour policy that takes the actions of
which there are too few yet.

A small rollout of the policy itself does not look like it: some actions were drawn too often. Every
refresh_every steps the behaviour policy begins as the policy and takes gradient steps that make
what the rollout has so far less likely, until it is behaviour_kl away; Adam's state is kept. PPO
then takes the rollout for its own: log-probabilities are the policy's. With
behaviour_learning_rate = 0, or no epochs, it is PPO.

One `step` is as in PPO, with up to num_steps/refresh_every·behaviour_epochs·behaviour_minibatches
gradient steps of the behaviour policy. Meant for few environments. Differs from the released code
in that the rollout is that of one iteration alone (there a buffer may hold several, of which the
update uses one), and as PPO does here.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from .. import losses
from ..envs import Environment
from .core import guard, keys, normalize, parallel
from .core.algorithm import Metrics, single
from .core.collect import Carry, Collector, Policy, Transition
from .core.config import ConfigError, configclass, static, traced
from .core.networks import Networks, features
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
    """Hyperparameters of PROPS."""

    clip_eps: float = traced(
        0.2, "Half-width of the interval of ratios that are not clipped.", above=0
    )
    refresh_every: int = static(
        8, "Steps of each environment between two fits of the behaviour policy.", low=1
    )
    behaviour_learning_rate: float = traced(
        1e-3, "Step size of Adam, for the behaviour policy; 0 leaves it the policy.", low=0
    )
    behaviour_clip_eps: float = traced(
        0.3, "How far below 1 the behaviour policy's ratio to the policy may be pushed.", above=0
    )
    behaviour_kl: float = traced(
        0.1, "Divergence from the policy, in nats, at which a fit stops.", above=0
    )
    behaviour_epochs: int = static(16, "Passes over the rollout so far in a fit, at most.", low=0)
    behaviour_minibatches: int = static(
        16, "Minibatches that a rollout is cut into for a fit.", low=1
    )
    num_envs: int = 1
    num_steps: int = 256

    MINIBATCHES = ("num_minibatches", "behaviour_minibatches")
    MAY_REMEMBER = False

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        size = self.num_envs * self.num_steps
        if self.num_steps % self.refresh_every:
            allowed = f"must divide num_steps = {self.num_steps}"
            raise ConfigError("refresh_every", self.refresh_every, allowed)
        if size % self.behaviour_minibatches:
            allowed = f"must divide num_envs·num_steps = {size}"
            raise ConfigError("behaviour_minibatches", self.behaviour_minibatches, allowed)
        if self.staleness != 0:
            allowed = "must be 0: the behaviour policy follows the policy itself"
            raise ConfigError("staleness", self.staleness, allowed)


class Sampled(NamedTuple):
    """What a fit of the behaviour policy sees of a rollout, rows `[T·N, ...]`.

    Attributes:
      obs: as the policy network sees them.
      action: as the head stores them.
      log_prob: under the policy, in nats.
      filled: bool, which rows there are yet.
    """

    obs: Any
    action: chex.Array
    log_prob: chex.Array
    filled: chex.Array


def behaviour_optimiser(config: Config) -> optax.GradientTransformation:
    """That of the behaviour policy, whose state is kept from fit to fit."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(config.behaviour_learning_rate, eps=config.adam_eps),
    )


def fit_behaviour(
    params: Any,
    opt_state: Any,
    data: Sampled,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: Config,
) -> tuple[Any, Any, Metrics]:
    """The behaviour policy: from the policy's parameters, gradient steps on `losses.props_loss` of
    what was sampled, until a minibatch is further than config.behaviour_kl away.

    Args:
      params: of the policy network.
      opt_state: of the behaviour policy's optimiser.
      data: what was sampled.
      key: a typed key, for shuffling.
      networks: the networks.
      config: the hyperparameters.

    Returns:
      (parameters, opt_state, metrics: the divergence of the last minibatch that was looked
      at, before its step, and the steps taken).
    """
    start, unravel = ravel_pytree(params)
    size, num_minibatches = data.filled.size, config.behaviour_minibatches
    optimiser = behaviour_optimiser(config)

    def loss(flat, rows):
        distribution = networks.policy.apply(unravel(flat), rows.obs)
        log_prob = networks.head.log_prob(rows.action, distribution)
        each = losses.props_loss(log_prob, rows.log_prob, clip_eps=config.behaviour_clip_eps)
        kl = losses.approx_kl(log_prob, rows.log_prob)
        count = jnp.maximum(parallel.total(jnp.sum(rows.filled)), 1)
        total, kl = (jnp.sum(jnp.where(rows.filled, x, 0.0)) / count for x in (each, kl))
        return total, kl

    def gradient_step(carry, indices):
        flat, opt_state, going, kl, taken = carry
        rows = jax.tree.map(lambda x: x[indices], data)
        grads, new_kl = parallel.total(jax.grad(loss, has_aux=True)(flat, rows))
        looks = going & (parallel.total(jnp.sum(rows.filled)) > 0)
        kl = jnp.where(looks, new_kl, kl)
        going &= new_kl <= config.behaviour_kl
        is_step = looks & going  # of nothing, Adam's momentum would still be a step
        updates, new = optimiser.update(grads, opt_state, flat)
        moved = optax.apply_updates(flat, updates), new
        flat, opt_state = guard.keep(is_step, moved, (flat, opt_state))
        return (flat, opt_state, going, kl, taken + is_step), None

    def epoch(carry):
        number, carried = carry
        epoch_key = jax.random.fold_in(jax.random.clone(key), number)
        indices = keys.shuffled_indices(epoch_key, 1, size).reshape(num_minibatches, -1)
        carried, _ = jax.lax.scan(gradient_step, carried, indices)
        return number + 1, carried

    def goes_on(carry):
        number, (_, _, going, _, _) = carry
        return (number < config.behaviour_epochs) & going & jnp.any(data.filled)

    carried = start, opt_state, jnp.bool_(True), jnp.float32(0.0), jnp.float32(0.0)
    _, carried = jax.lax.while_loop(goes_on, epoch, (jnp.int32(0), carried))
    flat, opt_state, _, kl, taken = carried
    return unravel(flat), opt_state, {"charts/behaviour_kl": kl, "charts/behaviour_steps": taken}


def collect(
    collector: Collector,
    policy: Policy,
    networks: Networks,
    learner: Learner,
    opt_state: Any,
    config: Config,
    carry: Carry,
    key: chex.PRNGKey,
) -> tuple[Carry, Transition, Any, Any, Metrics]:
    """A rollout in chunks of config.refresh_every steps, each by a behaviour policy that is fitted
    to those before. Its keys are those of a rollout of the policy.
    """
    params, every = learner.params, config.refresh_every
    num_envs = parallel.share(config.num_envs)
    num_chunks = config.num_steps // every
    key_data = keys.split_for_scan(key, config.num_steps, 2)
    fit_key = jax.random.fold_in(jax.random.clone(key), 0xF17)
    fit_key_data = keys.split_for_scan(fit_key, num_chunks, 1)

    def seen(obs):
        return features(networks, params, normalize.obs(learner, obs))

    def steps(behaviour, carry, key_data):
        def explore(memory, obs, key):
            acting = params | {"policy": behaviour}
            action, _, memory = policy.explore(acting, memory, normalize.obs(learner, obs), key)
            distribution = networks.policy.apply(params["policy"], seen(obs))
            return action, networks.head.log_prob(action, distribution), memory

        carry, _, rows, episodes = collector.collect(
            explore, config, carry, key, every, key_data=key_data
        )
        return carry, rows, episodes

    def chunk(carried, inputs):
        carry, opt_state, rollout = carried
        number, key_data, fit_key_data = inputs
        (fit_key,) = keys.unpack_keys(fit_key_data, key)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout)
        filled = jnp.arange(rows.reward.size) < number * every * num_envs
        data = Sampled(seen(rows.obs), rows.action, rows.log_prob, filled)
        behaviour, opt_state, metrics = fit_behaviour(
            params["policy"], opt_state, data, fit_key, networks=networks, config=config
        )
        carry, rows, episodes = steps(behaviour, carry, key_data)
        rollout = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, number * every, 0),
            rollout,
            rows,
        )
        return (carry, opt_state, rollout), (episodes, metrics)

    key_data = key_data.reshape(num_chunks, every, *key_data.shape[1:])
    shapes = jax.eval_shape(steps, params["policy"], carry, key_data[0])[1]
    empty = jax.tree.map(lambda x: jnp.zeros((config.num_steps, *x.shape[1:]), x.dtype), shapes)
    inputs = jnp.arange(num_chunks), key_data, fit_key_data
    (carry, opt_state, rollout), (episodes, metrics) = jax.lax.scan(
        chunk, (carry, opt_state, empty), inputs
    )
    return carry, rollout, episodes, opt_state, jax.tree.map(jnp.mean, metrics)


def init_behaviour(learner: Learner, env: Environment, config: Config) -> Any:
    """The state of the behaviour policy's optimiser at the start of a run."""
    del env
    return single(behaviour_optimiser(config).init(ravel_pytree(learner.params["policy"])[0]))


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
make = loop.maker(Config, update, behaviour=loop.Behaviour(init_behaviour, collect))
