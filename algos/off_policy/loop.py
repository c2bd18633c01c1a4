"""The off-policy loop: act, write to the replay, and update on minibatches of n-step transitions
drawn from it.

TD3, SAC and their kin are this loop with a critic update, an actor update and a way to explore.

One `step` is max(1, policy_delay/num_updates) vector steps of num_envs environments, then
num_updates critic updates for each of them, every policy_delay of which are followed by one actor
update. So the delay is part of the program's structure: nothing is computed and thrown away, also
under vmap. `init` fills the replay with learning_starts environment steps of uniformly random
actions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Discrete, Environment
from ..core import collect, device_memory, fitting, guard, masks, normalize, parallel
from ..core.algorithm import Algorithm, ConfigType, Make, Metrics
from ..core.collect import Policy
from ..core.dataset import Dataset
from ..core.device_memory import Part
from ..core.networks import remember, rows
from ..core.optimisers import Optimiser
from ..core.recurrent import Sequence, first_member
from . import acting as acts
from . import replay, sequences, stored
from .actor_critic import TD_ERROR, Batch, Learner
from .collection import Store, make_replay_collector
from .config import OffPolicyConfig
from .networks import Networks, with_optimiser
from .replay import Sampler


class State(NamedTuple):
    """Everything that a run carries; `sampler` is the sampler's own state, `average` that of
    `core.averaging`, () without one, None where what acts is not made of learner.params.
    """

    config: Any
    learner: Learner
    collection: collect.Carry
    replay: replay.Replay
    sampler: Any
    key: chex.PRNGKey
    average: Any = ()


def batch_at(
    ring: replay.Replay, row: chex.Array, env: chex.Array, config: OffPolicyConfig
) -> Batch:
    """The n-step transitions at places of the replay.

    Args:
      ring: the replay of `Transition`s.
      row: int32 `[n_step, ...]`, the rows of each window, oldest first.
      env: int32 `[...]`, its environment.
      config: the hyperparameters.
    """
    stored = ring.rows
    reward, terminated, truncated = replay.take(
        (stored.reward, stored.terminated, stored.truncated), row, env[None]
    )
    reward, discount, index = losses.n_step_return(
        reward * config.reward_scale, terminated, truncated, gamma=config.gamma
    )
    last = jnp.take_along_axis(row, index[None], axis=0)[0]
    return Batch(
        obs=replay.take(stored.obs, row[0], env),
        action=replay.take(stored.action, row[0], env),
        reward=reward,
        discount=discount,
        next_obs=replay.take(stored.next_obs, last, env),
    )


def _require_memory(
    env: Environment, config: OffPolicyConfig, networks: Networks, learner: Learner
) -> None:
    """Refuses what cannot fit into the device: the config's own parts, the networks, and what their
    passes keep.
    """
    memory = jax.eval_shape(lambda: sequences.initial_memory(networks, config.samples, config))
    lead = (config.sequence_length, config.samples) if memory else (config.samples,)
    obs = rows(env.observation_space, *lead)
    if memory:
        start = jax.ShapeDtypeStruct(lead, bool)
        obs = jax.eval_shape(first_member, Sequence(obs, start, memory))
    discrete = _is_discrete(env)
    action = [] if discrete else [rows(env.action_space, *lead)]
    params = learner.params
    critic = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params["critic"])
    kept = config.num_critics * device_memory.backward_bytes(networks.critic, critic, obs, *action)
    kept += device_memory.backward_bytes(networks.actor, params["actor"], obs)
    remembered = config.buffer_size / config.samples * device_memory.tree_bytes(memory)
    device_memory.require(
        config,
        *config.memory_parts(env),
        Part(
            ("actor_hidden_sizes", "critic_hidden_sizes", "num_critics"),
            device_memory.tree_bytes(learner),
            "the networks and their optimiser",
        ),
        Part(("batch_size",), kept, "the networks' activations on a minibatch"),
        Part(("buffer_size", "memory_size"), remembered, "what networks remembered at each step"),
    )


def _is_discrete(env):
    return isinstance(env.action_space, Discrete)


def maker(
    Config: type[ConfigType],  # noqa: N803 - as the module of an algorithm calls it
    make_networks: Callable[..., Networks],
    init_learner: Callable[..., Learner],
    update: Callable[..., tuple[Learner, Metrics]],
    make_policy: Callable[..., Policy],
    *,
    acting: Callable[[Learner, OffPolicyConfig], dict[str, Any]] = acts.parameters,
) -> Make[ConfigType]:
    """The `make` of an off-policy algorithm.

    Args:
      Config: the class of its hyperparameters.
      make_networks: (env, config) -> networks.
      init_learner: (key, *, env, networks, config) -> the learner.
      update: (learner, batches, key, *, networks, config, obs_statistics) -> (learner, metrics).
      make_policy: (env, networks) -> how it acts.
      acting: what acts, as the policy takes it, see `acting`.
    """

    def make(
        env: Environment,
        config: OffPolicyConfig | None = None,
        networks: Networks | None = None,
        *,
        sampler: Sampler = replay.uniform,
        optimiser: Optimiser = None,
        data: Dataset | None = None,
        data_share: float = 0.0,
    ) -> Algorithm:
        """The algorithm on an environment.

        Args:
          env: a single environment, as `envs.make` gives it.
          config: the hyperparameters; `Config()` by default. Its static fields hold for every
            State.
          networks: own networks; by default those of `make_networks`. An actor that puts out a
            `Gaussian` or actions goes with a critic of (obs, action), one that puts out logits with
            a critic of obs. Their modules may have other collections than "params", and take an
            argument `train`, with which they may use the rng "dropout".
          sampler: how minibatches are drawn from the replay.
          optimiser: an own optimiser, see `core.optimisers`; by default that of the networks, and
            else the one of the config.
          data: stored transitions to learn from too; None for none.
          data_share: part of each minibatch that is from the data, whatever the replay holds. With
            0 the replay begins with the data in the place of random actions.

        Raises:
          ConfigError: the config is not valid for the environment, what it describes cannot fit
            into the device, or the networks, the optimiser or data_share do not fit.
          DatasetError: something is wrong with the data, or they are of another environment.
        """
        config = stored.prefilled(Config.of(config), data, data_share)
        config.validate(env)
        discrete = _is_discrete(env)
        networks = fitting.own_or_default(env, config, networks, make_networks, discrete)
        networks = networks._replace(actor=masks.masked(networks.actor, env.observation_space))
        networks, shape = with_optimiser(networks, optimiser, init_learner, env=env, config=config)
        sequences.require_declared(networks, config)
        _require_memory(env, config, networks, shape)
        policy = make_policy(env, networks)
        data = stored.of(data, data_share, env, config)
        return _algorithm(
            env, config, networks, policy, sampler, init_learner, update, data, acting
        )

    return make


def _algorithm(env, config, networks, policy, sampler, init_learner, update, data, acting):
    default_config = config
    filled = data is not None and not data.samples
    from_data = 0 if data is None else data.samples
    capacity = config.buffer_size // config.num_envs
    remembers = remember(networks)
    collector = make_replay_collector(
        env, config, policy.memory, partial(sequences.remembered, networks)
    )

    def explorer(learner, config):
        params = acting(learner, config)

        def explore(memory, obs, key):
            return policy.explore(params, memory, normalize.obs(learner, obs), key)

        return explore

    def init(key: chex.PRNGKey, config: OffPolicyConfig | None = None) -> State:
        parallel.require_multiple("data_share·batch_size", from_data, parallel.size())
        if filled and config is not None:
            config = stored.prefilled(type(default_config).of(config), data, 0.0)
        config = default_config.for_state(config, env)
        learner_key, start_key, key = jax.random.split(key, 3)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        watch = explorer(learner, config) if remembers else None
        carry, store = collector.start(start_key, config, learner.obs_statistics, watch)
        store = stored.fill(data, store) if filled else store
        # A fault leaves the statistics as they were.
        statistics = guard.keep(guard.ok(store.fault), store.obs_statistics, learner.obs_statistics)
        learner = learner._replace(fault=store.fault, obs_statistics=statistics)
        samples = sampler.init(store.replay)
        return State(config, learner, carry, store.replay, samples, key, acts.average(acting))

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, sample_key, update_key = jax.random.split(state.key, 4)
        config = state.config
        learner = state.learner
        num_rows = default_config.rows_per_step

        # Collect.
        store = Store(state.replay, learner.fault, learner.obs_statistics)
        carry, store, episodes = collector.collect(
            explorer(learner, config),
            config,
            state.collection,
            store,
            learner.iteration,
            collect_key,
            num_rows,
        )
        ring = store.replay
        new_rows = (ring.cursor - num_rows + jnp.arange(num_rows)) % capacity
        # Sample.
        samples = sampler.add(state.sampler, new_rows)
        num_minibatches = num_rows * default_config.num_updates
        num_stored = parallel.share(from_data)
        shape = (num_minibatches, parallel.share(default_config.samples) - num_stored)
        row, at_env, weight = sampler.sample(samples, ring, sample_key, shape, config.window)
        if remembers:
            batches = sequences.batch_at(ring, row, at_env, config)
            if not isinstance(weight, tuple):
                weight = jnp.broadcast_to(weight[:, None], batches.reward.shape)
        else:
            batches = batch_at(ring, row, at_env, config)
        batches = batches._replace(weight=weight)
        if from_data:
            key, data_key = jax.random.split(key)
            size = (num_minibatches, num_stored)
            places = replay.sample_places(data.ring, data_key, size, window=config.window)
            batches = stored.join(batches, batch_at(data.ring, *places, config))
        # Update.
        learner, metrics = update(
            learner._replace(fault=store.fault),
            batches,
            update_key,
            networks=networks,
            config=config,
            obs_statistics=store.obs_statistics,
        )
        td_error = metrics.pop(TD_ERROR)
        td_error = td_error[:, : shape[1]] if from_data else td_error
        td_error = jnp.mean(td_error, axis=1) if remembers else td_error
        updated = sampler.update(samples, row[0], at_env, td_error)
        samples = guard.keep(guard.ok(learner.fault), updated, samples)
        metrics = collect.episode_metrics(*episodes) | metrics | guard.metrics(learner.fault)
        return State(config, learner, carry, ring, samples, key, state.average), metrics

    def seen(state: State, obs: Any) -> tuple[Any, Any]:
        return acting(state.learner, state.config), normalize.obs(state.learner, obs)

    made = collect.make_acting(env, policy, collector.to_env, seen)
    return Algorithm(
        init,
        step,
        made.act,
        made.memory,
        env,
        config,
        steps_per_iteration=config.rows_per_step * config.num_envs,
        initial_steps=config.prefill_rows * config.num_envs,
        logits=made.logits,
        replay=("replay", "sampler"),
    )
