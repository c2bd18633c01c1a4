"""StaQ: policy mirror descent with a growing stack of Q-functions (arXiv 2506.13862), for discrete actions.

The policy is a softmax of a weighted sum of the last `memory` Q-functions (`losses.staq_coefficients`); nothing else
is learned but the next Q-function. One `step` is one iteration of mirror descent: num_steps vector steps of num_envs
environments with the present policy, updates_per_step gradient steps of Q for each environment step, and a copy of Q
on the stack. The stack is a ring of parameters of a fixed size, so that growing it changes no shape; entries not yet
filled have weight 0. Policy evaluation needs the logits of the present policy, which does not change within an
iteration, at every successor in the replay: they are kept beside it and advanced by the recursion that the stack
stands for, of which only the newest and the outgoing Q-function are evaluated. While the entropy weight is annealed
the weights of all entries change, and the logits are computed anew with the whole stack.

Environments with a Box of actions are cut into a grid of `bins` values per dimension.

Differs from the released code in that exactly `memory` networks are kept (it keeps one more, while its weights are for
`memory`), in that the target is the expectation over the successor's actions and not one sample, in that minibatches
are drawn with replacement, and in that frames of MinAtar are not transposed. The first policy is uniform, as there.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import losses
from ..envs import Box, Discretized, Environment
from . import guard, memory, replay, rollout
from .base import Algorithm, Metrics
from .collection import Carry, ReplayConfig, faults_of, make_collector
from .config import ConfigError, configclass, static, traced
from .networks import ACTIVATIONS, INITIALISERS, critic_obs, make_torso
from .q_networks import DiscreteCritic, apply_ensemble, init_ensemble

__all__ = ["Batch", "Config", "Learner", "init_learner", "make", "make_networks", "push", "stack_logits", "update"]

_CHUNK = 256  # observations that the whole stack is evaluated on at once


@configclass
class Config(ReplayConfig):
    """Hyperparameters of StaQ; sizes that suit a laptop. The published ones are presets."""

    learning_rate: float = traced(1e-3, "Step size of Adam.", above=0)
    tau: float = traced(1.0, "Weight of the new parameters in the target network; 1 copies.", above=0, high=1)
    target_interval: int = traced(200, "Gradient steps after which the target network follows.", low=1)
    kl_weight: float = traced(20.0, "λ, weight of the divergence from the previous policy.", low=0)
    entropy_start: float = traced(2.0, "Weight of the entropy at the start, times log n for n actions.", above=0)
    entropy_end: float = traced(0.4, "The same at the end of the annealing.", above=0)
    anneal_fraction: float = traced(0.1, "Part of total_steps over which it falls linearly.", low=0, high=1)
    epsilon: float = traced(0.05, "Probability of a uniformly random action while collecting.", low=0, high=1)
    reward_scale: float = traced(10.0, "Rewards are multiplied by it before anything else.", above=0)
    total_steps: int = traced(300_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    memory: int = static(50, "Q-functions in the stack; M in the paper.", low=1)
    num_critics: int = static(2, "Q-functions that are learned side by side and averaged.", low=1)
    num_envs: int = static(16, "Environments that are stepped together.", low=1)
    num_steps: int = static(64, "Vector steps in an iteration.", low=1)
    updates_per_step: int = static(1, "Gradient steps per environment step.", low=1)
    buffer_size: int = static(50_000, "Transitions that the replay holds, of all environments together.", low=1)
    bins: int = static(2, "Values per dimension that continuous actions are cut into; 2 is bang-bang.", low=2)
    hidden_sizes: tuple[int, ...] = static((64, 64), "Widths of the hidden layers.", low=1)
    activation: str = static("relu", "Activation of the networks.", choices=tuple(ACTIVATIONS))
    initialiser: str = static("uniform", "Initialisation of the networks.", choices=tuple(INITIALISERS))

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.buffer_size < self.num_envs * self.num_steps:
            allowed = f"must hold an iteration, num_envs·num_steps = {self.num_envs * self.num_steps}"
            raise ConfigError("buffer_size", self.buffer_size, allowed)

    @property
    def rows_per_step(self) -> int:
        """Vector steps in one `step`."""
        return self.num_steps


class Batch(NamedTuple):
    """What a gradient step learns from; every leaf `[B, ...]`.

    Attributes:
      obs: the observation.
      action: int32, what was done.
      reward: scaled.
      discount: γ·(1 − terminated).
      next_obs: the true successor.
      next_logits: the policy's logits there, `[B, n]`.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    discount: chex.Array
    next_obs: Any
    next_logits: chex.Array


class Learner(NamedTuple):
    """What an iteration changes.

    Attributes:
      params: of the Q-functions that are learned, an ensemble, leaves `[C, ...]`.
      targets: their slowly following copy.
      opt_state: the optimiser's state.
      stack: the last Q-functions as a ring, leaves `[memory, C, ...]`.
      updates: gradient steps so far, int32.
      iteration: iterations so far, int32; entry `iteration % memory` of the stack is written next.
      fault: the first non-finite number that was met, see `guard`.
    """

    params: Any
    targets: Any
    opt_state: Any
    stack: Any
    updates: chex.Array
    iteration: chex.Array
    fault: chex.Array


class State(NamedTuple):
    """Everything that a run carries; next_logits are the policy's at the replay's successors, `[capacity, N, n]`."""

    config: Any
    learner: Learner
    collection: Carry
    next_logits: chex.Array
    key: chex.PRNGKey


def make_networks(env: Environment, config: Config) -> nn.Module:
    """A Q-function of all actions, as the config says."""
    layers = make_torso(critic_obs(env.observation_space), config.hidden_sizes, config.activation, config.initialiser)
    return DiscreteCritic(layers, env.action_space.n, config.initialiser)


def init_learner(key: chex.PRNGKey, *, env: Environment, networks: nn.Module, config: Config) -> Learner:
    """Fresh parameters and optimiser, and an empty stack."""
    obs = jax.tree.map(lambda space: jnp.zeros(space.shape, space.dtype), env.observation_space)
    params = init_ensemble(networks, key, config.num_critics, obs)
    return Learner(
        params=params,
        targets=jax.tree.map(jnp.copy, params),
        opt_state=optax.adam(config.learning_rate).init(params),
        stack=jax.tree.map(lambda x: jnp.zeros((config.memory, *x.shape), x.dtype), params),
        updates=jnp.int32(0),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def entropy_coef(iteration: chex.Array, num_actions: int, config: Config) -> chex.Array:
    """τ of an iteration: annealed over the first anneal_fraction of total_steps, then constant; per log n."""
    done = iteration * (config.num_envs * config.num_steps / config.total_steps)
    progress = jnp.clip(done / jnp.maximum(config.anneal_fraction, 1e-9), 0.0, 1.0)
    return (config.entropy_start + progress * (config.entropy_end - config.entropy_start)) / np.log(num_actions)


def mirror_descent(iteration: chex.Array, num_actions: int, config: Config) -> tuple[chex.Array, chex.Array]:
    """η and β of an iteration: 1/(λ + τ) and λ/(λ + τ)."""
    eta = 1.0 / (config.kl_weight + entropy_coef(iteration, num_actions, config))
    return eta, config.kl_weight * eta


def stack_logits(learner: Learner, obs: Any, *, networks: nn.Module, config: Config) -> chex.Array:
    """The policy's logits by the whole stack: observations `[B, ...]` to `[B, n]`."""
    stacked = jax.vmap(lambda params: mean_q(networks, params, obs))(learner.stack)
    eta, beta = mirror_descent(learner.iteration, stacked.shape[-1], config)
    by_age = losses.staq_coefficients(learner.iteration, memory=config.memory, eta=eta, beta=beta)
    age = (learner.iteration - 1 - jnp.arange(config.memory)) % config.memory
    return losses.staq_logits(stacked, by_age[age])


def mean_q(networks: nn.Module, params: Any, obs: Any) -> chex.Array:
    """The mean over an ensemble, observations `[B, ...]` to `[B, n]`."""
    return jnp.mean(apply_ensemble(networks, params, obs), axis=0)


def update(
    learner: Learner, batch: Batch, key: chex.PRNGKey | None = None, *, networks: nn.Module, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the Q-functions towards the soft value of the present policy.

    Args:
      learner: what is to be updated.
      batch: a minibatch.
      key: not used; here because other algorithms' updates take one.
      networks: the Q-function that belongs to learner.params.
      config: the hyperparameters.

    Returns:
      (learner, metrics).
    """
    del key
    probs = jax.nn.softmax(batch.next_logits)
    next_q = jnp.sum(probs * mean_q(networks, learner.targets, batch.next_obs), axis=-1)
    entropy = losses.categorical_entropy(batch.next_logits)
    coef = entropy_coef(learner.iteration, batch.next_logits.shape[-1], config)
    target = losses.staq_target(batch.reward, batch.discount, next_q, entropy, entropy_coef=coef)

    def loss(params):
        q = apply_ensemble(networks, params, batch.obs)
        q = jnp.take_along_axis(q, batch.action[None, :, None], axis=-1)[..., 0]
        critic_loss = jnp.mean(losses.td3_critic_loss(q, jnp.broadcast_to(target, q.shape)))
        return critic_loss, {"losses/critic_loss": critic_loss, "losses/q": jnp.mean(q)}

    grads, metrics = jax.grad(loss, has_aux=True)(learner.params)
    changes, opt_state = optax.adam(config.learning_rate).update(grads, learner.opt_state)
    params = optax.apply_updates(learner.params, changes)
    updates = learner.updates + 1
    weight = jnp.where(updates % config.target_interval == 0, config.tau, 0.0)
    targets = optax.incremental_update(params, learner.targets, weight)
    metrics |= {"losses/entropy": jnp.mean(entropy), "losses/critic_grad_norm": optax.tree.norm(grads)}
    return learner._replace(params=params, targets=targets, opt_state=opt_state, updates=updates), metrics


def push(learner: Learner, *, config: Config) -> Learner:
    """Puts a copy of the Q-functions on the stack, in the place of the oldest, and begins the next iteration."""
    place = learner.iteration % config.memory
    stack = jax.tree.map(lambda pool, x: pool.at[place].set(x), learner.stack, learner.params)
    return learner._replace(stack=stack, iteration=learner.iteration + 1)


def advance_logits(
    logits: chex.Array, obs: Any, learner: Learner, *, networks: nn.Module, config: Config
) -> chex.Array:
    """The next policy's logits from the present one's, where η and β stay: for a learner that is about to be pushed.

    ξ' = β·ξ + η·Q_k + η·β^M/(1 − β^M)·(Q_k − Q_{k−M}), the last term being what leaves the stack. Observations
    `[B, ...]` and logits `[B, n]` to `[B, n]`.
    """
    oldest = jax.tree.map(lambda pool: pool[learner.iteration % config.memory], learner.stack)
    new_q, old_q = mean_q(networks, learner.params, obs), mean_q(networks, oldest, obs)
    old_q = jnp.where(learner.iteration >= config.memory, old_q, 0.0)
    eta, beta = mirror_descent(learner.iteration, logits.shape[-1], config)
    correction = jnp.power(beta, config.memory) / (1.0 - jnp.power(beta, config.memory))
    return beta * logits + eta * new_q + eta * correction * (new_q - old_q)


def _over_rows(function, *rows):
    """Applies a function of `[N, ...]` arrays to `[R, N, ...]` ones, some rows at a time."""
    num_rows, num_envs = jax.tree.leaves(rows)[0].shape[:2]
    return jax.lax.map(lambda x: function(*x), rows, batch_size=max(1, min(num_rows, _CHUNK // num_envs)))


def make(env: Environment, config: Config | None = None, networks: nn.Module | None = None) -> Algorithm:
    """StaQ on an environment.

    Args:
      env: a single environment, as `envs.make` gives it; a Box of actions is cut into a grid.
      config: the hyperparameters; `Config()` by default.
      networks: an own Q-function, observations `[..., *shape]` to `[..., n]`; by default that of `make_networks`.

    Raises:
      ConfigError: the config is not valid for the environment, or what it describes cannot fit into the device.
    """
    config = config or Config()
    config.validate(env)
    if isinstance(env.action_space, Box):
        try:
            env = Discretized(env, config.bins)
        except ValueError as error:
            raise ConfigError("bins", config.bins, str(error)) from error
    networks = networks or make_networks(env, config)
    learner_shape = jax.eval_shape(partial(init_learner, env=env, networks=networks, config=config), jax.random.key(0))
    memory.require("memory", config.memory, memory.tree_bytes(learner_shape), "the stack of networks")
    collector, default_config, num_actions = make_collector(env, config), config, env.action_space.n
    capacity = config.buffer_size // config.num_envs

    def logits_of(learner, obs, config):
        return stack_logits(learner, obs, networks=networks, config=config)

    def init(key: chex.PRNGKey, config: Config | None = None) -> State:
        config = config or default_config
        config.require_same_static_fields(default_config)
        config = config.as_leaves()
        learner_key, collector_key, key = jax.random.split(key, 3)
        carry, seen = collector.start(collector_key, config)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = learner._replace(fault=faults_of(learner, seen))
        # The first policy is uniform: the stack is empty.
        next_logits = jnp.zeros((capacity, config.num_envs, num_actions), jnp.float32)
        return State(config, learner, carry, next_logits, key)

    def explore(learner, config, key, obs):
        random_key, sample_key, choice_key = jax.random.split(key, 3)
        action = jax.random.categorical(sample_key, logits_of(learner, obs, config))
        other = jax.random.randint(random_key, action.shape, 0, num_actions)
        return jnp.where(jax.random.uniform(choice_key, action.shape) < config.epsilon, other, action).astype(jnp.int32)

    def with_new_rows(next_logits, learner, carry, config):
        """The logits at the successors that this iteration has collected."""
        rows = (carry.replay.cursor - config.num_steps + jnp.arange(config.num_steps)) % capacity
        obs = jax.tree.map(lambda x: x[rows], carry.replay.rows.next_obs)
        return next_logits.at[rows].set(_over_rows(lambda obs: logits_of(learner, obs, config), obs))

    def for_next_policy(next_logits, before, learner, carry, config):
        """The logits at all successors under the next policy; `before` is the learner before it was pushed."""
        obs = carry.replay.rows.next_obs

        def recursion():
            one = partial(advance_logits, learner=before, networks=networks, config=config)
            return _over_rows(one, next_logits, obs)

        def anew():
            return _over_rows(lambda obs: logits_of(learner, obs, config), obs)

        same = mirror_descent(before.iteration, num_actions, config)[0]
        same = same == mirror_descent(learner.iteration, num_actions, config)[0]
        return jax.lax.cond(same, recursion, anew)

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, update_key = jax.random.split(state.key, 3)
        config, learner = state.config, state.learner

        # Collect with the present policy.
        def select_action(key, exploration, obs):
            del exploration
            return explore(learner, config, key, obs)

        carry, seen = collector.collect(select_action, config, state.collection, collect_key, config.num_steps)
        next_logits = with_new_rows(state.next_logits, learner, carry, config)

        # Evaluate it.
        def gradient_step(learner, key_data):
            (sample_key,) = rollout.unpack_keys(key_data, update_key)
            batch = sample(carry.replay, next_logits, sample_key, config)
            learner, metrics = update(learner, batch, networks=networks, config=config)
            names[:] = metrics
            return learner, jnp.stack(list(metrics.values()))

        names = []  # of the metrics, which travel as one vector
        num_updates = config.num_envs * config.num_steps * config.updates_per_step
        new, metrics = jax.lax.scan(gradient_step, learner, rollout.split_for_scan(update_key, num_updates, 1))
        metrics = dict(zip(names, metrics.T, strict=True))

        # Improve it: the Q-functions go on the stack.
        written = (metrics["losses/critic_grad_norm"], new.params, new.targets, new.opt_state)
        fault = guard.first(
            faults_of(learner, seen), guard.in_update(metrics["losses/critic_loss"], written, learner.iteration)
        )
        before, after = new, push(new, config=config)
        next_logits = for_next_policy(next_logits, before, after, carry, config)
        kept = guard.keep(guard.ok(fault), (after, next_logits), (learner, state.next_logits))
        learner, next_logits = kept[0]._replace(fault=fault), kept[1]
        metrics = rollout.episode_metrics(*seen[3:]) | jax.tree.map(jnp.mean, metrics)
        metrics["charts/entropy_coef"] = entropy_coef(before.iteration, num_actions, config)
        return State(config, learner, carry, next_logits, key), metrics

    def act(state: State, obs: Any, key: chex.PRNGKey, deterministic: bool) -> chex.Array:
        shape = jax.tree.leaves(env.observation_space)[0].shape
        first = jax.tree.leaves(obs)[0]
        lead = first.shape[: first.ndim - len(shape)]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), obs)
        logits = logits_of(state.learner, flat, state.config).reshape(*lead, num_actions)
        action = jnp.argmax(logits, axis=-1) if deterministic else jax.random.categorical(key, logits)
        return action.astype(jnp.int32)

    steps, initial_steps = config.num_envs * config.num_steps, config.prefill_rows * config.num_envs
    return Algorithm(init, step, act, env, config, steps, initial_steps=initial_steps)


def sample(ring: replay.Replay, next_logits: chex.Array, key: chex.PRNGKey, config: Config) -> Batch:
    """A minibatch from the replay and the logits beside it."""
    row, env = replay.sample_places(ring, key, (config.batch_size,))
    taken = replay.take(ring.rows._asdict() | {"next_logits": next_logits}, row[0], env)
    return Batch(
        obs=taken["obs"],
        action=taken["action"],
        reward=taken["reward"] * config.reward_scale,
        discount=config.gamma * (1.0 - taken["terminated"]),
        next_obs=taken["next_obs"],
        next_logits=taken["next_logits"],
    )
