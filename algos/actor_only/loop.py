"""The loop without a critic: a policy, environments, and one step of the parameters an iteration.

What an iteration does is a paper's own; see `maker`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax

from ...envs import Box, Discrete, Environment
from ..core import collect, fitting, guard, masks
from ..core.algorithm import Algorithm, ConfigType, Make, Metrics
from ..core.collect import Collector
from ..core.config import ConfigError
from ..core.heads import ActionHead, make_head
from ..core.networks import Policy, actor_space, make_torso
from ..core.recurrent import remembers
from .config import ActorOnlyConfig


class Networks(NamedTuple):
    """What an algorithm without a critic needs of its network.

    Attributes:
      policy: a module, observations to the parameters of the head's distribution.
      head: the action head that belongs to it.
    """

    policy: nn.Module
    head: ActionHead


class State(NamedTuple):
    """Everything that a run carries; `collection` is () where each iteration begins anew, `average`
    that of `core.averaging`, () without one.
    """

    config: Any
    learner: Any
    collection: Any
    key: chex.PRNGKey
    average: Any = ()


class Room(NamedTuple):
    """Where an iteration takes place.

    Attributes:
      collector: steps the environments.
      policy: how the algorithm acts.
      networks: the networks.
      config: the hyperparameters, those that are traced too.
    """

    collector: Collector
    policy: collect.Policy
    networks: Networks
    config: ActorOnlyConfig


def make_networks(env: Environment, config: ActorOnlyConfig) -> Networks:
    """A policy network as the config says.

    Raises:
      ConfigError: observations have entries that this network would ignore, or there is no head for
        the actions.
    """
    head = make_head(env.action_space, config.policy)
    torso = make_torso(actor_space(env), config.hidden_sizes, config.activation, config.initialiser)
    policy = Policy(torso, head.size, isinstance(env.action_space, Box), config.initialiser)
    return Networks(masks.masked(policy, env.observation_space), head)


def make_policy(env: Environment, networks: Networks) -> collect.Policy:
    """Explores by sampling from the policy network's distribution; without exploring, its mode."""
    head, network = networks.head, networks.policy

    def explore(params, memory, obs, key):
        distribution = network.apply(params, obs)
        action = head.sample(key, distribution)
        return action, head.log_prob(action, distribution), memory

    def act(params, memory, obs):
        return head.mode(network.apply(params, obs)), memory

    def logits(params, memory, obs):
        return network.apply(params, obs)

    discrete = isinstance(env.action_space, Discrete)
    return collect.Policy(explore, act, logits=logits if discrete else None)


def maker(
    Config: type[ConfigType],  # noqa: N803 - as the module of an algorithm calls it
    init_learner: Callable[..., Any],
    iterate: Callable[..., tuple[Any, Any, tuple, Metrics]],
    *,
    goes_on: bool,
    wrap: Callable[[Environment], Environment] = lambda env: env,
) -> Make[ConfigType]:
    """The `make` of an algorithm without a critic.

    Args:
      Config: the class of its hyperparameters.
      init_learner: (key, *, env, networks, config) -> learner, with `params` as the policy network
        takes them, `iteration` and `fault`.
      iterate: (learner, collection, key, room) -> (learner, collection, episodes, metrics), the
        episodes as `collect.episode_metrics` takes them.
      goes_on: whether an iteration goes on where the last one stopped, or else begins episodes anew
        by itself; collection is then ().
      wrap: what the environment is trained in.
    """

    def make(
        env: Environment, config: ActorOnlyConfig | None = None, networks: Networks | None = None
    ) -> Algorithm:
        """The algorithm on an environment.

        Args:
          env: a single environment, as `envs.make` gives it.
          config: the hyperparameters; `Config()` by default. Its static fields hold for every
            State.
          networks: an own policy network and its head; by default those of `make_networks`.

        Raises:
          ConfigError: the config is not valid for the environment, what it describes cannot fit
            into the device, or the networks do not fit.
        """
        config = Config.of(config)
        config.validate(env)
        own = networks is not None
        if own:
            fitting.require_parts(networks, *Networks._fields)
        networks = networks if own else make_networks(env, config)
        policy = masks.masked(networks.policy, env.observation_space)
        networks = networks._replace(policy=policy)
        if remembers(policy):
            raise ConfigError("networks.policy", "a network that remembers", "must not remember")
        shape = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
        if own:
            fitting.require_actor_critic(env, networks, {"policy": shape.params})
        init = partial(init_learner, env=env, networks=networks)
        return _algorithm(env, wrap(env), config, networks, init, iterate, goes_on)

    return make


def _algorithm(env, trained_in, config, networks, init_learner, iterate, goes_on):
    default_config = config
    policy = make_policy(env, networks)
    to_env = networks.head.to_env
    collector = collect.make_collector(trained_in, policy.memory, to_env)

    def init(key: chex.PRNGKey, config: ActorOnlyConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, env_key, key = jax.random.split(key, 3)
        learner = init_learner(learner_key, config=config)
        if not goes_on:
            return State(config, learner, (), key)
        collection = collector.reset(env_key, config)
        fault = guard.agreed(guard.in_reset(collection.obs, learner.iteration))
        return State(config, learner._replace(fault=fault), collection, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, iteration_key = jax.random.split(state.key)
        room = Room(collector, policy, networks, state.config)
        learner, collection, episodes, metrics = iterate(
            state.learner, state.collection, iteration_key, room
        )
        metrics = collect.episode_metrics(*episodes) | metrics | guard.metrics(learner.fault)
        return State(state.config, learner, collection, key), metrics

    acting = collect.make_acting(
        env, policy, to_env, lambda state, obs: (state.learner.params, obs)
    )
    return Algorithm(
        init,
        step,
        acting.act,
        acting.memory,
        env,
        config,
        steps_per_iteration=config.steps_per_iteration,
        logits=acting.logits,
    )
