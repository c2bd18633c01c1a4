"""The offline loop: the off-policy update on data that is there from the beginning, without an
environment in the step.

Offline algorithms are this loop with a critic update, an actor update and a way to act, as those of
`loop` are. One `step` is num_updates critic updates, every policy_delay of which are followed by an
actor update, each on a minibatch drawn uniformly with replacement. The environment is there for its
spaces and for evaluation.

The data are constants of the program and not in the State: seeds under vmap share them, and
checkpoints do not hold them. The State has their checksum instead; a run that goes on with other
data stops with a fault.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Environment
from ..core import collect, dataset, device_memory, fitting, guard, normalize, parallel
from ..core.algorithm import Algorithm, ConfigType, Make, Metrics
from ..core.collect import Policy, Transition
from ..core.config import ConfigError, configclass, static, traced
from ..core.dataset import Dataset, DatasetError
from ..core.device_memory import Part
from . import acting as acts
from . import deterministic
from .actor_critic import TD_ERROR, Batch, Learner
from .config import ActorCriticConfig
from .networks import Networks, with_optimiser


@configclass
class OfflineConfig(ActorCriticConfig):
    """What the offline algorithms have in common."""

    total_steps: int = traced(100_000, "Critic updates of the run.", low=1, high=2**31 - 1)
    num_updates: int = static(100, "Critic updates in one `step`.", low=1)
    normalize_obs: bool = static(
        True, "Whether observations are normalised by mean and standard deviation of the data."
    )

    SHARED = ("batch_size",)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        deterministic.require_continuous(env)
        if self.num_updates % self.policy_delay:
            allowed = f"must divide num_updates = {self.num_updates}"
            raise ConfigError("policy_delay", self.policy_delay, allowed)
        obs, action = map(device_memory.space_bytes, (env.observation_space, env.action_space))
        taken = float(self.num_updates * self.batch_size) * (2 * obs + 2 * action + 8)
        part = Part(("batch_size", "num_updates"), taken, "the minibatches of a step")
        device_memory.require(self, part)

    def done(self, iteration: chex.Array) -> chex.Array:
        """The part of total_steps that was done before an iteration, in [0, 1]."""
        return jnp.minimum(iteration * (self.num_updates / jnp.float32(self.total_steps)), 1.0)


class State(NamedTuple):
    """Everything that a run carries but the data; `data` is their checksum, `average` the state of
    `core.averaging`, () without one, None where what acts is not made of learner.params.
    """

    config: Any
    learner: Learner
    data: chex.Array
    key: chex.PRNGKey
    average: Any = ()


def batch_of(rows: Transition, next_action: Any, config: OfflineConfig) -> Batch:
    """One-step transitions as an update takes them; leaves `[...]`."""
    return Batch(
        obs=rows.obs,
        action=rows.action,
        reward=rows.reward * config.reward_scale,
        discount=config.gamma * (1.0 - rows.terminated),
        next_obs=rows.next_obs,
        next_action=next_action,
    )


def _require_room(data: Dataset) -> None:
    available = device_memory.device_bytes()
    needed = device_memory.tree_bytes(data.transitions)
    if available is not None and needed > available:
        gib = 2**30
        raise DatasetError(
            f"the data take {needed / gib:,.1f} GiB, the device has {available / gib:.1f} GiB"
        )


def maker(
    Config: type[ConfigType],  # noqa: N803 - as the module of an algorithm calls it
    make_networks: Callable[..., Networks],
    init_learner: Callable[..., Learner],
    update: Callable[..., tuple[Learner, Metrics]],
    make_policy: Callable[..., Policy],
    *,
    all_data: Callable[[Transition, OfflineConfig], Any] | None = None,
    next_actions: bool = False,
    acting: Callable[[Learner, OfflineConfig], dict[str, Any]] = acts.parameters,
) -> Make[ConfigType]:
    """The `make` of an offline algorithm.

    Args:
      Config: the class of its hyperparameters.
      make_networks: (env, config) -> networks.
      init_learner: (key, *, env, networks, config) -> the learner.
      update: (learner, batches, key, *, networks, config, obs_statistics) -> (learner, metrics).
      make_policy: (env, networks) -> how it acts.
      all_data: (all transitions, config) -> what `update` takes of them, as `data`; their
        observations are as the networks see them. None where it takes nothing.
      next_actions: whether batches have the next action of the data; the transitions that none
        follows are then left out.
      acting: what acts, as the policy takes it, see `acting`.
    """

    def make(
        env: Environment,
        config: OfflineConfig | None = None,
        networks: Networks | None = None,
        *,
        data: Dataset,
        optimiser: Any = None,
    ) -> Algorithm:
        """The algorithm on data.

        Args:
          env: a single environment, for its spaces and for evaluation.
          config: the hyperparameters; `Config()` by default. Its static fields hold for every
            State.
          networks: own networks; by default those of `make_networks`.
          data: what it learns from.
          optimiser: an own optimiser, see `core.optimisers`; by default that of the networks, and
            else the one of the config.

        Raises:
          ConfigError: the config is not valid for the environment, or the networks or the optimiser
            do not fit.
          DatasetError: something is wrong with the data, or they are of another environment.
        """
        config = Config.of(config)
        config.validate(env)
        if not isinstance(data, Dataset):
            raise DatasetError(f"data={data!r}: must be a Dataset, see core.dataset")
        data.check(env)
        _require_room(data)
        networks = fitting.own_or_default(env, config, networks, make_networks, discrete=False)
        networks, _ = with_optimiser(networks, optimiser, init_learner, env=env, config=config)
        return _algorithm(
            env,
            config,
            networks,
            data,
            init_learner,
            update,
            make_policy(env, networks),
            all_data,
            next_actions,
            acting,
        )

    return make


def _algorithm(
    env,
    config,
    networks,
    data,
    init_learner,
    update,
    policy,
    all_data,
    next_actions,
    acting,
):
    default_config = config
    rows = jax.tree.map(np.asarray, data.transitions)
    following = ()
    if next_actions:
        rows, following = dataset.next_actions(rows)
    num_rows = len(rows.reward)
    if not num_rows:
        raise DatasetError("no transition of the data has a next action")
    checksum = np.uint32(data.checksum)
    seen = {}
    if all_data is not None:  # once, and not in the program, where each seed would have its own
        fresh = normalize.of_space(env.observation_space) if config.normalize_obs else ()
        obs = normalize.apply(normalize.update(fresh, rows.obs), rows.obs) if fresh else rows.obs
        seen["data"] = jax.tree.map(np.asarray, all_data(rows._replace(obs=obs), config))

    def init(key: chex.PRNGKey, config: OfflineConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, key = jax.random.split(key)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = learner._replace(obs_statistics=normalize.obs_statistics(learner, rows.obs))
        return State(config, learner, jnp.asarray(checksum), key, acts.average(acting))

    def step(state: State) -> tuple[State, Metrics]:
        key, sample_key, update_key = jax.random.split(state.key, 3)
        config, learner = state.config, state.learner
        same = guard.in_data(state.data == checksum, learner.iteration)
        learner = learner._replace(fault=guard.first(learner.fault, same))
        shape = (default_config.num_updates, parallel.share(default_config.batch_size))
        place = jax.random.randint(sample_key, shape, 0, num_rows, jnp.int32)
        batches = batch_of(
            *jax.tree.map(lambda x: jnp.asarray(x)[place], (rows, following)), config
        )
        learner, metrics = update(
            learner,
            batches,
            update_key,
            networks=networks,
            config=config,
            obs_statistics=learner.obs_statistics,
            **jax.tree.map(jnp.asarray, seen),
        )
        metrics.pop(TD_ERROR)
        no_episode = collect.episode_metrics(jnp.zeros(1, bool), jnp.zeros(1), jnp.zeros(1))
        metrics = no_episode | metrics | guard.metrics(learner.fault)
        return State(config, learner, state.data, key, state.average), metrics

    def in_state(state: State, obs: Any) -> tuple[Any, Any]:
        return acting(state.learner, state.config), normalize.obs(state.learner, obs)

    made = collect.make_acting(env, policy, env.action_space.from_unit, in_state)
    return Algorithm(
        init,
        step,
        made.act,
        made.memory,
        env,
        config,
        steps_per_iteration=config.num_updates,
        scores=data.scores_in(env),
    )
