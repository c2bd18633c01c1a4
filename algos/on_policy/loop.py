"""The on-policy loop: collect a rollout, estimate advantages, take passes of minibatch steps on it.

PPO, SPO and MDPO are this loop with a loss of their own. One `step` takes num_envs·num_steps
environment steps, and then what `policy_gradient.update` says.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Discrete, Environment
from ..core import (
    collect,
    device_memory,
    fitting,
    guard,
    masks,
    normalize,
    optimisers,
    recurrent,
)
from ..core.algorithm import Algorithm, ConfigType, Make, Metrics
from ..core.config import ConfigError
from ..core.device_memory import Part
from ..core.networks import Networks, features, make_actor_critic, remember, rows
from ..core.optimisers import Optimiser
from .config import OnPolicyConfig
from .policy_gradient import Learner, init_learner, trained_parts

_BEGIN = 0xB361  # what is folded into the rollout's key for what comes before it


class State(NamedTuple):
    """Everything that a run carries; `lagging` are past policies, () without staleness, `average`
    that of `core.averaging`, () without one, None where what acts is not made of learner.params,
    `behaviour` what a `Behaviour` carries, () without.
    """

    config: Any
    learner: Learner
    collection: collect.Carry
    key: chex.PRNGKey
    lagging: Any = ()
    average: Any = ()
    behaviour: Any = ()


class Behaviour(NamedTuple):
    """How a paper collects where it is not the learner's policy alone that acts.

    Attributes:
      init: (learner, env, config) -> what the State carries for it.
      collect: (collector, policy, networks, learner, carried, config, carry, key) -> (carry,
        rollout, episodes, carried, metrics): as `Collector.collect`, with the log_prob of the
        learner's policy.
      begin: (state, key, init_learner, networks) -> state, before each iteration; None leaves it.
        `init_learner` takes (key, config=...).
      acting: state -> what `act` acts by, as the policy takes it; None for the parameters.
    """

    init: Callable[..., Any]
    collect: Callable[..., tuple[collect.Carry, Any, Any, Any, Metrics]]
    begin: Callable[..., State] | None = None
    acting: Callable[[State], Any] | None = None


def _lagging(learner, staleness):
    """What has acted, and is to act, in the iterations to come: copies of the parameters and of
    the statistics that observations are seen through, oldest first; () with a staleness of 0.
    """
    if staleness == 0:
        return ()
    acting = (learner.params, learner.obs_statistics)
    return jax.tree.map(lambda x: jnp.stack([x] * staleness), acting)


def _advance(lagging, learner):
    """Without the oldest, and with the newest."""
    acting = (learner.params, learner.obs_statistics)
    return jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), lagging, acting)


def _require_memory(
    env: Environment, config: OnPolicyConfig, networks: Networks, learner: Learner
) -> None:
    """Refuses what cannot fit into the device: the config's own parts, the networks, and what their
    passes keep.
    """
    size = config.num_envs * config.num_steps
    sizes = ("num_envs", "num_steps")
    params = learner.params
    activations = []
    each = zip(trained_parts(networks, config), config.passes, strict=True)
    for parts, (_, num_minibatches) in each:
        obs = _minibatch_obs(env, config, networks, num_minibatches)
        seen = jax.eval_shape(partial(features, networks), params, obs)
        kept = sum(
            device_memory.backward_bytes(
                getattr(networks, name), params[name], obs if name == "torso" else seen
            )
            for name, is_trained in parts.items()
            if is_trained
        )
        what = f"the activations on a minibatch of {size // num_minibatches:,}"
        activations.append(Part(sizes, kept, what))
    device_memory.require(
        config,
        *config.memory_parts(env),
        Part(
            ("hidden_sizes",), device_memory.tree_bytes(learner), "the networks and their optimiser"
        ),
        Part(
            ("staleness", "hidden_sizes"),
            config.staleness * device_memory.tree_bytes(learner.params),
            "the policies that are still to act",
        ),
        max(activations, key=lambda part: part.bytes),
    )


def _require_optimiser(optimiser, networks, config, params):
    optimisers.require(optimiser, list(params))
    for parts in trained_parts(networks, config):
        optimisers.require_step(partial(optimisers.of_all, optimiser, parts), params)
    if config.adaptive_lr and not optimisers.follows_learning_rate(optimiser):
        allowed = "must be False: the optimiser is no function of the learning rate"
        raise ConfigError("adaptive_lr", config.adaptive_lr, allowed)


def _minibatch_obs(env, config, networks, num_minibatches):
    """The observations of a minibatch as its networks see them, by shape."""
    num_steps, num_envs = config.num_steps, config.num_envs
    if not remember(networks):
        return rows(env.observation_space, num_steps * num_envs // num_minibatches)
    lead = num_steps, num_envs // num_minibatches
    return recurrent.Sequence(
        rows(env.observation_space, *lead),
        jax.ShapeDtypeStruct(lead, bool),
        jax.eval_shape(lambda: recurrent.initial_memory(networks, lead[1])),
    )


def make_policy(env: Environment, networks: Networks) -> collect.Policy:
    """Explores by sampling from the policy network's distribution; without exploring, its mode."""
    head = networks.head

    def distribution(params, memory, obs):
        """What the policy network puts out, what the value network sees, and the memory."""
        if networks.torso is not None:
            visible = masks.without_mask(obs)
            seen, memory = recurrent.step(networks.torso, "torso", params["torso"], memory, visible)
            obs = masks.with_mask(seen, obs)
        out, memory = recurrent.step(networks.policy, "policy", params["policy"], memory, obs)
        return out, obs, memory

    def explore(params, memory, obs, key):
        out, obs, memory = distribution(params, memory, obs)
        if recurrent.remembers(networks.value):
            memory = recurrent.step(networks.value, "value", params["value"], memory, obs)[1]
        action = head.sample(key, out)
        return action, head.log_prob(action, out), memory

    def act(params, memory, obs):
        out, _, memory = distribution(params, memory, obs)
        return head.mode(out), memory

    def logits(params, memory, obs):
        return distribution(params, memory, obs)[0]

    def memory(key, num_envs, config):
        del key, config
        return recurrent.initial_memory(networks, num_envs)

    discrete = isinstance(env.action_space, Discrete)
    return collect.Policy(explore, act, memory, logits if discrete else None)


def maker(
    Config: type[ConfigType],  # noqa: N803 - as the module of an algorithm calls it
    update: Callable[..., tuple[Learner, Metrics]],
    init_learner: Callable[..., Learner] = init_learner,
    make_policy: Callable[..., collect.Policy] = make_policy,
    behaviour: Behaviour | None = None,
    make_networks: Callable[..., Networks] = make_actor_critic,
) -> Make[ConfigType]:
    """The `make` of an on-policy algorithm.

    Args:
      Config: the class of its hyperparameters.
      update: (learner, batch, key, *, networks, config) -> (learner, metrics).
      init_learner: (key, *, env, networks, config) -> learner.
      make_policy: (env, networks) -> how it acts.
      behaviour: how it collects, where that is not by its own policy.
      make_networks: (env, config) -> the default networks.
    """

    def make(
        env: Environment,
        config: OnPolicyConfig | None = None,
        networks: Networks | None = None,
        *,
        optimiser: Optimiser = None,
    ) -> Algorithm:
        """The algorithm on an environment.

        Args:
          env: a single environment, as `envs.make` gives it.
          config: the hyperparameters; `Config()` by default. Its static fields hold for every
            State.
          networks: own networks: policy, value and head, and a torso of both; by default those of
            `make_networks`.
          optimiser: an own optimiser, see `core.optimisers`; by default that of the networks, and
            else Adam as the config says.

        Raises:
          ConfigError: the config is not valid for the environment, what it describes cannot fit
            into the device, or the networks or the optimiser do not fit.
        """
        config = Config.of(config)
        config.validate(env)
        own = networks is not None
        if own:
            fitting.require_parts(networks, *Networks._fields)
        networks = networks if own else make_networks(env, config)
        optimiser = networks.optimiser if optimiser is None else optimiser
        policy = masks.masked(networks.policy, env.observation_space)
        networks = networks._replace(policy=policy, optimiser=None)
        recurrent.require_names(networks)
        if remember(networks):
            config.require_whole_environments()
        shape = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
        if own:
            fitting.require_actor_critic(env, networks, shape.params)
        if optimiser is not None:
            _require_optimiser(optimiser, networks, config, shape.params)
            networks = networks._replace(optimiser=optimiser)
            shape = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
        _require_memory(env, config, networks, shape)
        init = partial(init_learner, env=env, networks=networks)
        policy = make_policy(env, networks)
        return _algorithm(env, config, networks, policy, init, update, behaviour)

    return make


def _algorithm(env, config, networks, policy, init_learner, update, behaviour):
    default_config = config
    to_env = networks.head.to_env
    collector = collect.make_collector(env, policy.memory, to_env)

    def init(key: chex.PRNGKey, config: OnPolicyConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, env_key, key = jax.random.split(key, 3)
        carry = collector.reset(env_key, config)
        learner = init_learner(learner_key, config=config)
        fault = guard.agreed(guard.in_reset(carry.obs, learner.iteration))
        learner = learner._replace(fault=fault)
        state = State(config, learner, carry, key, _lagging(learner, config.staleness))
        if behaviour is not None:
            carried = behaviour.init(learner, env, config)
            average = () if behaviour.acting is None else None
            state = state._replace(behaviour=carried, average=average)
        return state

    def step(state: State) -> tuple[State, Metrics]:
        key, rollout_key, update_key = jax.random.split(state.key, 3)
        if behaviour is not None and behaviour.begin is not None:
            begin_key = jax.random.fold_in(jax.random.clone(rollout_key), _BEGIN)
            state = behaviour.begin(state, begin_key, init_learner, networks)
        config = state.config
        learner = state.learner
        num_steps = default_config.num_steps
        actor, lagging = learner, state.lagging
        if default_config.staleness:
            params, obs_statistics = jax.tree.map(lambda x: x[0], lagging)
            actor = learner._replace(params=params, obs_statistics=obs_statistics)
            lagging = _advance(lagging, learner)

        def explore(memory, obs, key):
            return policy.explore(actor.params, memory, normalize.obs(actor, obs), key)

        # Collect.
        carried, own = state.behaviour, {}
        if behaviour is None:
            carry, _, batch, episodes = collector.collect(
                explore, config, state.collection, rollout_key, num_steps
            )
        else:
            carry, batch, episodes, carried, own = behaviour.collect(
                collector,
                policy,
                networks,
                learner,
                carried,
                config,
                state.collection,
                rollout_key,
            )
        last = jax.tree.map(lambda x: x[-1], batch.next_obs)
        at_reset = guard.in_reset(carry.obs, learner.iteration, num_steps - 1, last)
        fault = guard.first(learner.fault, at_reset)
        if behaviour is not None:
            # What was collected comes before what is carried of it.
            met = guard.in_rollout((batch.obs, batch.next_obs), batch.reward, learner.iteration)
            written = guard.in_update({"optimiser state": carried}, learner.iteration)
            fault = guard.first(fault, met, written)
        learner = learner._replace(fault=fault)
        # Update.
        learner, metrics = update(learner, batch, update_key, networks=networks, config=config)
        if behaviour is not None:
            carried = guard.keep(guard.ok(learner.fault), carried, state.behaviour)
        metrics = collect.episode_metrics(*episodes) | metrics | own | guard.metrics(learner.fault)
        return State(config, learner, carry, key, lagging, state.average, carried), metrics

    def seen(state: State, obs: Any) -> tuple[Any, Any]:
        by_itself = behaviour is None or behaviour.acting is None
        params = state.learner.params if by_itself else behaviour.acting(state)
        return params, normalize.obs(state.learner, obs)

    acting = collect.make_acting(env, policy, to_env, seen)
    return Algorithm(
        init,
        step,
        acting.act,
        acting.memory,
        env,
        config,
        steps_per_iteration=config.num_envs * config.num_steps,
        logits=acting.logits,
    )
