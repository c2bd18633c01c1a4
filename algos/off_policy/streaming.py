"""The streaming loop: act, and learn from that one transition before the next. There is no replay,
and no target network.

One `step` is num_steps environment steps, with an update after each. To fill a machine, `vmap` over
seeds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Environment, VectorEnv
from ...envs.vector import RESETS
from ..core import collect, device_memory, fitting, guard, normalize
from ..core.algorithm import Algorithm, ConfigType, Make, Metrics
from ..core.collect import Transition
from ..core.config import BaseConfig, ConfigError, configclass, static, traced
from ..core.device_memory import Part
from ..core.initialisers import INITIALISERS
from ..core.keys import split_for_scan, unpack_keys
from ..core.networks import ACTIVATIONS, rows
from ..core.optimisers import Optimiser
from . import actor_critic, deterministic, soft, td_scale
from .networks import Networks, training_options, with_optimiser
from .td_scale import TdScale


@configclass
class StreamingConfig(BaseConfig):
    """What algorithms that learn from a stream have in common."""

    learning_rate: float = traced(3e-4, "Step size of Adam, for the actor.", above=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    total_steps: int = traced(200_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    num_steps: int = static(128, "Environment steps in one `step`, each with an update.", low=1)
    normalize_obs: bool = static(True, "Whether observations are normalised by running statistics.")
    actor_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the actor's hidden layers.", low=1
    )
    critic_hidden_sizes: tuple[int, ...] = static(
        (256, 256), "Widths of the critic's hidden layers.", low=1
    )
    activation: str = static(
        "leaky_relu", "Activation of all networks.", choices=tuple(ACTIVATIONS)
    )
    initialiser: str = static(
        "orthogonal", "Initialisation of all networks.", choices=tuple(INITIALISERS)
    )
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    num_critics = 1  # as `actor_critic` asks for
    SHARED = None  # a stream is one environment

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        deterministic.require_continuous(env)


class Learner(NamedTuple):
    """What a transition changes.

    Attributes:
      params: the networks' variables by name: "actor" and "critic", an ensemble of one.
      opt_state: the optimisers' states, under the names of params.
      obs_statistics: running moments of the observations, or () without normalize_obs, or if none
        may be normalised.
      td_scale: what the scale of the TD errors is computed from.
      iteration: calls of `step`, or of a stand-alone update, so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: dict[str, Any]
    opt_state: dict[str, Any]
    obs_statistics: Any
    td_scale: TdScale
    iteration: chex.Array
    fault: chex.Array


class State(NamedTuple):
    """Everything that a run carries; `average` is that of `core.averaging`, () without one."""

    config: Any
    learner: Learner
    collection: collect.Carry
    key: chex.PRNGKey
    average: Any = ()


# (learner, transition `[N, ...]`, noise `[2, N, d]`, *, networks, config) -> (learner, metrics)
Learn = Callable[..., tuple[Learner, Metrics]]


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: StreamingConfig
) -> Learner:
    """Fresh parameters, optimisers and statistics."""
    fresh = actor_critic.init_learner(key, env=env, networks=networks, config=config, targets=())
    return Learner(
        fresh.params,
        fresh.opt_state,
        fresh.obs_statistics,
        td_scale.init(),
        fresh.iteration,
        fresh.fault,
    )


def observe(learner: Learner, obs: Any) -> Learner:
    """The learner whose statistics have seen these observations, `[N, ...]`, too: before it acts on
    them.
    """
    return learner._replace(obs_statistics=normalize.obs_statistics(learner, obs))


def guarded(learner: Learner, new: Learner, fault: chex.Array, metrics: Metrics) -> Learner:
    """`new`, or where a number is not finite or a parameter has diverged the learner as it was,
    with the fault.

    Args:
      learner: from before.
      new: what would be written.
      fault: the first fault in what was collected.
      metrics: of the losses.
    """
    written = {
        "statistics of the observations": new.obs_statistics,
        "statistics of the returns": new.td_scale,
        "loss": [x for name, x in metrics.items() if name.endswith("_loss")],
        "gradient": [x for name, x in metrics.items() if name.endswith("_grad_norm")],
        "parameter": new.params,
        "optimiser state": new.opt_state,
    }
    in_update = guard.in_update(written, learner.iteration)
    fault = guard.first(learner.fault, fault, in_update)
    kept = guard.keep(guard.ok(fault), new, learner)
    return kept._replace(iteration=learner.iteration + 1, fault=fault)


def update(
    learner: Learner,
    transition: Transition,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: StreamingConfig,
    learn: Learn,
) -> tuple[Learner, Metrics]:
    """One update, as after each step of the loop, on data of one's own.

    The statistics of the observations see the transition's before anything else. If a number in the
    data, the losses, the gradients or what would be written is not finite, or a parameter has
    diverged, nothing changes but `learner.fault` and the count of iterations, and so it stays.

    Args:
      learner: what is to be updated.
      transition: a step of one environment, leaves `[1, ...]`, actions in [−1, 1]^d, with the
        log_prob of the policy that chose them.
      key: a typed key, for what is sampled.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.
      learn: the algorithm's update on a transition.

    Returns:
      (learner, metrics).

    Raises:
      ConfigError: the transition is not of one environment.
    """
    stream = learner.td_scale.running_return.shape
    if transition.reward.shape != stream:
        found = f"an array of shape {list(transition.reward.shape)}"
        allowed = f"must be of shape {list(stream)}: a stream is one environment"
        raise ConfigError("transition.reward", found, allowed)
    noise = jax.random.normal(key, (2, *transition.action.shape), jnp.float32)
    seen = observe(learner, transition.obs)
    new, metrics = learn(seen, transition, noise, networks=networks, config=config)
    as_rollout = jax.tree.map(lambda x: x[None], transition)
    fault = guard.in_rollout(
        (as_rollout.obs, as_rollout.next_obs), as_rollout.reward, learner.iteration
    )
    return guarded(learner, new, fault, metrics), metrics


def _require_memory(
    env: Environment, config: StreamingConfig, networks: Networks, learner: Learner
) -> None:
    """Refuses what cannot fit into the device."""
    obs, action = rows(env.observation_space, 1), rows(env.action_space, 1)
    critic = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learner.params["critic"]
    )
    kept = device_memory.backward_bytes(networks.actor, learner.params["actor"], obs)
    kept += device_memory.backward_bytes(networks.critic, critic, obs, action)
    size = 2 * device_memory.tree_bytes(obs) + device_memory.tree_bytes(action) + 64
    sizes = ("actor_hidden_sizes", "critic_hidden_sizes")
    device_memory.require(
        config,
        Part(("num_steps",), float(config.num_steps * size), f"{config.num_steps:,} steps"),
        Part(sizes, device_memory.tree_bytes(learner), "the networks and their optimiser"),
        Part(sizes, kept, "the networks' activations"),
    )


def maker(
    Config: type[ConfigType],  # noqa: N803 - as the module of an algorithm calls it
    make_networks: Callable[..., Networks],
    learn: Learn,
) -> Make[ConfigType]:
    """The `make` of a streaming algorithm.

    Args:
      Config: the class of its hyperparameters.
      make_networks: (env, config) -> networks.
      learn: its update on a transition.
    """

    def make(
        env: Environment,
        config: StreamingConfig | None = None,
        networks: Networks | None = None,
        *,
        optimiser: Optimiser = None,
    ) -> Algorithm:
        """The algorithm on an environment.

        Args:
          env: a single environment, as `envs.make` gives it.
          config: the hyperparameters; `Config()` by default. Its static fields hold for every
            State.
          networks: own networks, an actor that puts out a `Gaussian` and a critic of (obs,
            action); by default those of `make_networks`.
          optimiser: an own optimiser, see `core.optimisers`; by default that of the networks, and
            else Adam as the config says. A function of the learning rate gets
            config.learning_rate, for both networks.

        Raises:
          ConfigError: the config is not valid for the environment, what it describes cannot fit
            into the device, or the networks or the optimiser do not fit.
        """
        config = Config.of(config)
        config.validate(env)
        networks = fitting.own_or_default(env, config, networks, make_networks, discrete=False)
        networks = Networks(networks.actor, networks.critic, getattr(networks, "optimiser", None))
        networks, shape = with_optimiser(networks, optimiser, init_learner, env=env, config=config)
        for name, variables in shape.params.items():
            if training_options(getattr(networks, name), variables):
                found = "a network with dropout, or with variables beside its parameters"
                raise ConfigError(f"networks.{name}", found, "must train as it acts")
        _require_memory(env, config, networks, shape)
        return _algorithm(env, config, networks, partial(learn, networks=networks))

    return make


def _algorithm(env, config, networks, learn):
    envs = VectorEnv(env, 1, reset=config.reset)
    policy = soft.make_policy(env, networks)
    default_config = config
    to_env = env.action_space.from_unit
    noise_shape = (default_config.num_steps, 2, 1, *env.action_space.shape)

    def init(key: chex.PRNGKey, config: StreamingConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, env_key, key = jax.random.split(key, 3)
        carry = collect.Carry(*envs.reset(env_key), ())
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = learner._replace(fault=guard.in_reset(carry.obs, learner.iteration))
        return State(config, learner, carry, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, steps_key, noise_key = jax.random.split(state.key, 3)
        config = state.config

        def one(carry, inputs):
            learner, collection = carry
            noise, key_data = inputs
            (env_key,) = unpack_keys(key_data, steps_key)
            obs = collection.obs
            # Act.
            learner = observe(learner, obs)
            distribution = networks.actor.apply(
                learner.params["actor"], normalize.obs(learner, obs)
            )
            action, log_prob = soft.squash(distribution, noise[0])
            env_state, result = envs.step(env_key, collection.env_state, to_env(action))
            # Learn.
            transition = Transition(
                obs=obs,
                action=action,
                reward=result.reward,
                terminated=result.terminated,
                truncated=result.truncated,
                next_obs=result.next_obs,
                log_prob=log_prob,
            )
            learner, metrics = learn(learner, transition, noise, config=config)
            done = result.terminated | result.truncated
            episodes = (done, result.episode_return, result.episode_length)
            watched = (obs, result.next_obs), result.reward
            carry = learner, collect.Carry(env_state, result.obs, ())
            return carry, (metrics, episodes, watched)

        noise = jax.random.normal(noise_key, noise_shape, jnp.float32)
        key_data = split_for_scan(steps_key, default_config.num_steps, 1)
        start = state.learner, state.collection
        (new, collection), outputs = jax.lax.scan(one, start, (noise, key_data))
        metrics, episodes, (observed, reward) = outputs
        metrics = jax.tree.map(jnp.mean, metrics)
        iteration, num_steps = state.learner.iteration, default_config.num_steps
        last = jax.tree.map(lambda x: x[-1], observed[1])
        fault = guard.first(
            guard.in_rollout(observed, reward, iteration),
            guard.in_reset(collection.obs, iteration, num_steps - 1, last),
        )
        learner = guarded(state.learner, new, fault, metrics)
        metrics = collect.episode_metrics(*episodes) | metrics | guard.metrics(learner.fault)
        return State(config, learner, collection, key), metrics

    def seen(state: State, obs: Any) -> tuple[Any, Any]:
        return state.learner.params, normalize.obs(state.learner, obs)

    acting = collect.make_acting(env, policy, to_env, seen)
    return Algorithm(
        init,
        step,
        acting.act,
        acting.memory,
        env,
        config,
        steps_per_iteration=config.num_steps,
    )
