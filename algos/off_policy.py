"""The off-policy loop: act, write to the replay, and update on minibatches of n-step transitions drawn from it.

TD3, FastTD3, SAC, FastSAC and off-policy MDPO are this loop with a critic update, an actor update and a way to explore.

One `step` is max(1, policy_delay/num_updates) vector steps of num_envs environments, then num_updates critic updates
for each of them, every policy_delay of which are followed by one actor update. So the delay is part of the program's
structure: nothing is computed and thrown away, also under vmap. `init` fills the replay with learning_starts
environment steps of uniformly random actions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import losses
from ..envs import Discrete, Environment, VectorEnv
from ..envs.vector import RESETS
from . import guard, memory, normalize, replay, rollout
from .base import Algorithm, Metrics
from .config import BaseConfig, ConfigError, configclass, static, traced
from .networks import ACTIVATIONS, INITIALISERS
from .q_networks import DTYPES


@configclass
class OffPolicyConfig(BaseConfig):
    """What the off-policy algorithms have in common."""

    learning_rate: float = traced(3e-4, "Step size of Adam, for actor and critics.", above=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    tau: float = traced(0.005, "Weight of the new parameters in the target networks.", above=0, high=1)
    reward_scale: float = traced(1.0, "Rewards are multiplied by it before anything else.", above=0)
    total_steps: int = traced(1_000_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    num_envs: int = static(1, "Environments that are stepped together.", low=1)
    batch_size: int = static(256, "Transitions in a minibatch.", low=1)
    buffer_size: int = static(1_000_000, "Transitions that the replay holds, of all environments together.", low=1)
    learning_starts: int = static(1_000, "Environment steps of random actions before the first update.", low=1)
    num_updates: int = static(1, "Critic updates per vector step.", low=1)
    policy_delay: int = static(1, "Critic updates per actor update.", low=1)
    n_step: int = static(1, "Rewards that are summed before bootstrapping.", low=1)
    normalize_obs: bool = static(False, "Whether observations are normalised by running statistics.")
    actor_hidden_sizes: tuple[int, ...] = static((256, 256), "Widths of the actor's hidden layers.", low=1)
    critic_hidden_sizes: tuple[int, ...] = static((256, 256), "Widths of the critics' hidden layers.", low=1)
    activation: str = static("relu", "Activation of all networks.", choices=tuple(ACTIVATIONS))
    layer_norm: bool = static(False, "Whether the hidden layers are normalised.")
    initialiser: str = static("uniform", "Initialisation of all networks.", choices=tuple(INITIALISERS))
    dtype: str = static("float32", "What the networks compute in.", choices=tuple(DTYPES))
    replay_dtype: str = static("float32", "What observations are stored in.", choices=tuple(DTYPES))
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.num_updates % self.policy_delay and self.policy_delay % self.num_updates:
            allowed = f"must divide num_updates = {self.num_updates}, or be a multiple of it"
            raise ConfigError("policy_delay", self.policy_delay, allowed)
        if self.buffer_size // self.num_envs < self.n_step:
            allowed = f"must be at least num_envs·n_step = {self.num_envs * self.n_step}"
            raise ConfigError("buffer_size", self.buffer_size, allowed)
        if self.buffer_size >= 2**31:
            raise ConfigError("buffer_size", self.buffer_size, "must be below 2^31")
        if not isinstance(self.total_steps, jax.core.Tracer):
            needed = self.prefill_rows * self.num_envs + self.rows_per_step * self.num_envs
            if np.min(self.total_steps) < needed:
                allowed = f"must be at least learning_starts and one step, {needed}"
                raise ConfigError("total_steps", self.total_steps, allowed)
        row = 2 * memory.space_bytes(env.observation_space) * DTYPES[self.replay_dtype].dtype.itemsize // 4
        row += memory.space_bytes(env.action_space) + 4 + 2
        what = f"a replay of {self.buffer_size:,} transitions"
        memory.require("buffer_size", self.buffer_size, float(self.buffer_size) * row, what)

    @property
    def prefill_rows(self) -> int:
        """Vector steps of random actions in `init`."""
        return max(self.n_step, -(-self.learning_starts // self.num_envs))

    @property
    def rows_per_step(self) -> int:
        """Vector steps in one `step`."""
        return max(1, self.policy_delay // self.num_updates)

    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adam(self.learning_rate)


class Transition(NamedTuple):
    """A row of the replay: one step of N environments; every leaf `[N, ...]`.

    Attributes:
      obs: the observation that was acted on.
      action: in [−1, 1]^d, or a class.
      reward: the reward.
      terminated: bool, the task was over.
      truncated: bool, a time limit cut the episode.
      next_obs: the true successor, also where the episode ended.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_obs: Any


class Batch(NamedTuple):
    """What an update learns from: n-step transitions; every leaf `[..., B, ...]`.

    Attributes:
      obs: normalised, if the config says so.
      action: in [−1, 1]^d, or a class.
      reward: the discounted sum of up to n rewards.
      discount: the factor of the bootstrap, γ^k·(1 − terminated).
      next_obs: the observation to bootstrap from, normalised likewise.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    discount: chex.Array
    next_obs: Any


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
      params: parameters by name: "actor", "critic" (an ensemble, leaves `[2, ...]`), and what else is learned.
      targets: the slowly following copies, of those that have one.
      opt_state: the optimisers' states, under the names of params.
      obs_statistics: running moments of the observations, or () without normalize_obs.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, see `guard`.
    """

    params: dict[str, Any]
    targets: dict[str, Any]
    opt_state: dict[str, Any]
    obs_statistics: Any
    iteration: chex.Array
    fault: chex.Array


class State(NamedTuple):
    """Everything that a run carries."""

    config: Any
    learner: Learner
    replay: replay.Replay
    env_state: Any
    obs: Any
    exploration: Any
    key: chex.PRNGKey


# (learner, batch `[B, ...]`, key, *, networks, config) -> (learner, metrics)
PartUpdate = Callable[..., tuple[Learner, Metrics]]


def learner_of(
    params: dict[str, Any], targets: tuple[str, ...], *, env: Environment, config: OffPolicyConfig
) -> Learner:
    """A learner before its first update; `targets` names the parameters that get a target copy."""
    obs = sample_obs(env)
    return Learner(
        params=params,
        targets={name: jax.tree.map(jnp.copy, params[name]) for name in targets},
        opt_state={name: config.optimiser().init(each) for name, each in params.items()},
        obs_statistics=normalize.init(obs) if config.normalize_obs else (),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def sample_obs(env: Environment) -> Any:
    """Zeros like one observation."""
    return jax.tree.map(lambda space: jnp.zeros(space.shape, space.dtype), env.observation_space)


def normalize_obs(learner: Learner, obs: Any) -> Any:
    """Observations as the networks see them."""
    return normalize.apply(learner.obs_statistics, obs) if learner.obs_statistics else obs


def descend(learner: Learner, name: str, loss: Callable, config: OffPolicyConfig) -> tuple[Learner, Metrics]:
    """One gradient step on params[name]; loss: params[name] -> (scalar, metrics)."""
    params = learner.params[name]
    grads, metrics = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = config.optimiser().update(grads, learner.opt_state[name], params)
    params = optax.apply_updates(params, updates)
    metrics[f"losses/{name}_grad_norm"] = optax.tree.norm(grads)
    learner = learner._replace(params=learner.params | {name: params}, opt_state=learner.opt_state | {name: opt_state})
    return learner, metrics


def follow(learner: Learner, name: str, config: OffPolicyConfig) -> Learner:
    """Moves targets[name] towards params[name]: (1 − tau)·target + tau·params."""
    target = optax.incremental_update(learner.params[name], learner.targets[name], config.tau)
    return learner._replace(targets=learner.targets | {name: target})


def update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Any,
    config: OffPolicyConfig,
    critic_update: PartUpdate,
    actor_update: PartUpdate,
) -> tuple[Learner, Metrics]:
    """Takes a critic update on each of K minibatches, and an actor update after every policy_delay of them.

    If a number in the losses, the gradients or what would be written is not finite, nothing changes but
    `learner.fault` and the count of iterations, and so it stays.

    Args:
      learner: what is to be updated.
      batch: K minibatches, every leaf `[K, B, ...]`; K must be a multiple of config.policy_delay.
      key: a typed key, for what is sampled in the updates.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      critic_update: the algorithm's update of its critics.
      actor_update: the algorithm's update of its actor, on the last minibatch of a block.

    Returns:
      (learner, metrics averaged over the updates).
    """
    delay = config.policy_delay
    num_blocks = batch.reward.shape[0] // delay
    blocks = jax.tree.map(lambda x: x.reshape(num_blocks, delay, *x.shape[1:]), batch)

    def part(update_part):
        def one(learner, inputs):
            minibatch, key_data = inputs
            (part_key,) = rollout.unpack_keys(key_data[None], key)
            return update_part(learner, minibatch, part_key, networks=networks, config=config)

        return one

    def block(learner, inputs):
        minibatches, key_data = inputs
        learner, critic_metrics = jax.lax.scan(part(critic_update), learner, (minibatches, key_data[:delay]))
        last = jax.tree.map(lambda x: x[-1], minibatches)
        learner, actor_metrics = part(actor_update)(learner, (last, key_data[delay]))
        return learner, jax.tree.map(jnp.mean, critic_metrics) | actor_metrics

    key_data = rollout.split_for_scan(key, num_blocks, delay + 1)
    new, metrics = jax.lax.scan(block, learner, (blocks, key_data))
    metrics = jax.tree.map(jnp.mean, metrics)
    loss_values = [x for name, x in metrics.items() if name.endswith("_loss")]
    grad_norms = [x for name, x in metrics.items() if name.endswith("_grad_norm")]
    written = (grad_norms, new.params, new.targets, new.opt_state)
    fault = guard.first(learner.fault, guard.in_update(loss_values, written, learner.iteration))
    learner = guard.keep(guard.ok(fault), new, learner)
    return learner._replace(iteration=learner.iteration + 1, fault=fault), metrics


def sample(
    ring: replay.Replay, learner: Learner, key: chex.PRNGKey, num_batches: int, config: OffPolicyConfig
) -> Batch:
    """Minibatches of n-step transitions from the replay, every leaf `[num_batches, batch_size, ...]`."""
    shape = (num_batches, config.batch_size)
    rows = ring.rows
    row, env = replay.sample_places(ring, key, shape, window=config.n_step)
    reward, terminated, truncated = replay.take((rows.reward, rows.terminated, rows.truncated), row, env[None])
    reward, discount, index = losses.n_step_return(
        reward * config.reward_scale, terminated, truncated, gamma=config.gamma
    )
    last = jnp.take_along_axis(row, index[None], axis=0)[0]
    obs, next_obs = replay.take(rows.obs, row[0], env), replay.take(rows.next_obs, last, env)
    return Batch(
        obs=normalize_obs(learner, obs),
        action=replay.take(rows.action, row[0], env),
        reward=reward,
        discount=discount,
        next_obs=normalize_obs(learner, next_obs),
    )


def write(ring: replay.Replay, row: Transition) -> replay.Replay:
    """Adds a row; where it is not finite, that environment's previous transition stands again instead.

    The previous transition and its copy are flagged as truncated, so that no n-step window counts them twice.
    """
    finite = guard.finite_per_env(jax.tree.map(lambda x: x[None], row))[0]
    last = replay.newest(ring)
    row = jax.tree.map(lambda new, old: jnp.where(_like(finite, new), new.astype(old.dtype), old), row, last)
    capacity = ring.rows.truncated.shape[0]
    flagged = ring.rows.truncated.at[(ring.cursor - 1) % capacity].set(last.truncated | ~finite)
    ring = ring._replace(rows=ring.rows._replace(truncated=flagged))
    return replay.add(ring, row._replace(truncated=row.truncated | ~finite))


def _like(flags, x):
    return flags.reshape(flags.shape + (1,) * (x.ndim - 1))


class Policy(NamedTuple):
    """How an algorithm acts; actions are in their stored form, [−1, 1]^d or a class.

    Attributes:
      explore: (params, exploration, obs, key) -> actions `[N, ...]`.
      act: (params, obs, key, deterministic) -> actions.
      exploration: (key, num_envs, config) -> what exploration carries for each environment, leaves `[N, ...]`; drawn
        anew for an environment when its episode ends.
    """

    explore: Callable[..., chex.Array]
    act: Callable[..., chex.Array]
    exploration: Callable[..., Any] = lambda key, num_envs, config: ()


def make(
    env: Environment,
    config: OffPolicyConfig,
    networks: Any,
    *,
    init_learner: Callable[..., Learner],
    update: Callable[..., tuple[Learner, Metrics]],
    policy: Policy,
) -> Algorithm:
    """Builds an off-policy algorithm from its parts.

    Args:
      env: the single environment.
      config: the hyperparameters, which have been validated; its static fields hold for every State.
      networks: the algorithm's networks.
      init_learner: (key, *, env, networks, config) -> the learner.
      update: (learner, batches, key, *, networks, config) -> (learner, metrics).
      policy: how it acts.

    Raises:
      ConfigError: the networks and their optimiser cannot fit into the device.
    """
    learner_shape = jax.eval_shape(partial(init_learner, env=env, networks=networks, config=config), jax.random.key(0))
    what = "the networks and their optimiser"
    memory.require("critic_hidden_sizes", config.critic_hidden_sizes, memory.tree_bytes(learner_shape), what)
    envs = VectorEnv(env, config.num_envs, reset=config.reset)
    num_envs, default_config = config.num_envs, config
    discrete = isinstance(env.action_space, Discrete)

    def to_env(action):
        return action if discrete else env.action_space.from_unit(action)

    def random_action(key, exploration, obs):
        del exploration, obs
        if discrete:
            return jax.random.randint(key, (num_envs,), 0, env.action_space.n)
        return jax.random.uniform(key, (num_envs, *env.action_space.shape), minval=-1.0, maxval=1.0)

    def vector_step(select_action, config, carry, key_data, like):
        """One step of all environments, written to the replay."""
        ring, env_state, obs, exploration = carry
        action_key, env_key, exploration_key = rollout.unpack_keys(key_data, like)
        action = select_action(action_key, exploration, obs)
        env_state, result = envs.step(env_key, env_state, to_env(action))
        row = Transition(obs, action, result.reward, result.terminated, result.truncated, result.next_obs)
        done = result.terminated | result.truncated
        renewed = policy.exploration(exploration_key, num_envs, config)
        exploration = jax.tree.map(lambda new, old: jnp.where(_like(done, new), new, old), renewed, exploration)
        seen = (obs, result.next_obs, result.reward, done, result.episode_return, result.episode_length)
        return (write(ring, row), env_state, result.obs, exploration), seen

    def collect(select_action, config, carry, key, num_rows):
        key_data = rollout.split_for_scan(key, num_rows, 3)
        return jax.lax.scan(lambda c, k: vector_step(select_action, config, c, k, key), carry, key_data)

    def empty_replay(obs):
        action = jax.eval_shape(lambda key: random_action(key, None, None), jax.random.key(0))
        stored = jax.tree.map(lambda x: _stored(x, DTYPES[default_config.replay_dtype]), obs)
        flags = jnp.zeros(num_envs, bool)
        row = Transition(stored, action, jnp.zeros(num_envs, jnp.float32), flags, flags, stored)
        return replay.init(row, default_config.buffer_size // num_envs)

    def after_collection(learner, seen):
        """Looks for faults in what was collected."""
        obs, next_obs, reward, *_ = seen
        fault = guard.first(learner.fault, guard.in_rollout((obs, next_obs), reward, learner.iteration))
        return learner._replace(fault=fault)

    def with_statistics(learner, obs):
        """Takes observations `[T, N, ...]` into the statistics, unless there was a fault."""
        if not config.normalize_obs:
            return learner
        statistics = normalize.update(learner.obs_statistics, obs)
        return learner._replace(obs_statistics=guard.keep(guard.ok(learner.fault), statistics, learner.obs_statistics))

    def init(key: chex.PRNGKey, config: OffPolicyConfig | None = None) -> State:
        config = config or default_config
        config.require_same_static_fields(default_config)
        config = config.as_leaves()
        learner_key, env_key, exploration_key, prefill_key, key = jax.random.split(key, 5)
        env_state, obs = envs.reset(env_key)
        exploration = policy.exploration(exploration_key, num_envs, config)
        carry = (empty_replay(obs), env_state, obs, exploration)
        carry, seen = collect(random_action, config, carry, prefill_key, config.prefill_rows)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = with_statistics(after_collection(learner, seen), seen[0])
        return State(config, learner, *carry, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, sample_key, update_key = jax.random.split(state.key, 4)
        config, learner = state.config, state.learner

        def select_action(key, exploration, obs):
            return policy.explore(learner.params, exploration, normalize_obs(learner, obs), key)

        # Collect.
        carry = (state.replay, state.env_state, state.obs, state.exploration)
        carry, seen = collect(select_action, config, carry, collect_key, config.rows_per_step)
        # Update.
        num_batches = config.rows_per_step * config.num_updates
        batches = sample(carry[0], learner, sample_key, num_batches, config)
        learner, metrics = update(
            after_collection(learner, seen), batches, update_key, networks=networks, config=config
        )
        learner = with_statistics(learner, seen[0])
        metrics = rollout.episode_metrics(*seen[3:]) | metrics
        return State(config, learner, *carry, key), metrics

    def act(state: State, obs: Any, key: chex.PRNGKey, deterministic: bool) -> chex.Array:
        return to_env(policy.act(state.learner.params, normalize_obs(state.learner, obs), key, deterministic))

    return Algorithm(
        init, step, act, env, config, config.rows_per_step * num_envs, initial_steps=config.prefill_rows * num_envs
    )


def _stored(x, dtype):
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(x.shape, dtype if floating else x.dtype)
