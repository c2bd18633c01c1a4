"""StaQ: policy mirror descent with a growing stack of Q-functions (arXiv 2506.13862), for discrete
actions.

The policy is a softmax of a weighted sum of the last `memory` Q-functions
(`losses.staq_coefficients`); nothing else is learned but the next Q-function. One `step` is one
iteration of mirror descent: num_steps vector steps of num_envs environments with the present
policy, updates_per_step gradient steps of Q for each environment step, and a copy of Q on the
stack. The stack is a ring of parameters of a fixed size, so that growing it changes no shape;
entries not yet filled have weight 0. Policy evaluation needs the logits of the present policy,
which does not change within an iteration, at every successor in the replay: they are cached and
advanced by the recursion that the stack stands for, of which only the newest and the outgoing
Q-function are evaluated. While the entropy weight is annealed the weights of all entries change,
and the logits are computed anew with the whole stack (`q_stack.refresh`).

Environments with a Box of actions are cut into a grid of `bins` values per dimension; actions are
then numbers of the grid, also those of `act`, and `algorithm.env` is the environment that takes
them.

Differs from the released code in that exactly `memory` networks are kept (it keeps one more, while
its weights are for `memory`), in that the target is the expectation over the successor's actions
and not one sample, in that minibatches are drawn with replacement, in that the output layer does
not start at zero, and in that frames of MinAtar are not transposed. The first policy is uniform.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ..envs import Box, Discretized, Environment
from .core import collect, fitting, guard, keys, parallel
from .core.algorithm import Algorithm, Metrics
from .core.collect import Transition
from .core.config import ConfigError, configclass, static, traced
from .core.device_memory import Part
from .core.initialisers import INITIALISERS
from .core.masks import mask_logits
from .core.networks import ACTIVATIONS, actor_space, make_torso
from .core.optimisers import Optimiser
from .off_policy import q_stack, replay
from .off_policy.collection import Store, make_replay_collector
from .off_policy.config import ReplayConfig
from .off_policy.networks import DiscreteCritic
from .off_policy.q_learner import (
    Batch,
    Learner,
    gradient_step,
    guarded,
    init_learner,
    memory_parts,
    require_fit,
    sample,
)
from .off_policy.q_stack import Weights

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "policy_logits",
    "update",
]


@configclass
class Config(ReplayConfig):
    """Hyperparameters of StaQ; sizes that suit a laptop. The published ones are presets."""

    learning_rate: float = 1e-3
    tau: float = traced(
        1.0, "Weight of the new parameters in the target network; 1 copies.", above=0, high=1
    )
    target_interval: int = traced(200, "Gradient steps after which the target follows.", low=1)
    kl_weight: float = traced(
        20.0, "λ, weight of the divergence from the previous policy.", low=0, high=1e4
    )
    entropy_start: float = traced(
        2.0, "Weight of the entropy at the start, times log n for n actions.", above=0
    )
    entropy_end: float = traced(0.4, "The same at the end of the annealing.", above=0)
    anneal_fraction: float = traced(
        0.1, "Part of total_steps over which it falls linearly.", low=0, high=1
    )
    epsilon: float = traced(
        0.05, "Probability of a uniformly random action while collecting.", low=0, high=1
    )
    reward_scale: float = 10.0
    total_steps: int = 300_000
    memory: int = static(50, "Q-functions in the stack; M in the paper.", low=1)
    num_critics: int = static(2, "Q-functions that are learned side by side and averaged.", low=1)
    num_envs: int = 16
    num_steps: int = static(64, "Vector steps in an iteration.", low=1)
    updates_per_step: int = static(1, "Gradient steps per environment step.", low=1)
    buffer_size: int = 50_000
    bins: int = static(
        2, "Values per dimension that continuous actions are cut into; 2 is bang-bang.", low=2
    )
    hidden_sizes: tuple[int, ...] = static((64, 64), "Widths of the hidden layers.", low=1)
    activation: str = static("relu", "Activation of the networks.", choices=tuple(ACTIVATIONS))
    initialiser: str = static(
        "uniform", "Initialisation of the networks.", choices=tuple(INITIALISERS)
    )

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if not isinstance(env.action_space, Box) and env.action_space.n < 2:
            allowed = "must have at least two actions"
            raise ConfigError("env.action_space", env.action_space, allowed)
        needed = self.num_envs * self.num_steps
        if self.buffer_size < needed:
            allowed = f"must hold an iteration, num_envs·num_steps = {needed}"
            raise ConfigError("buffer_size", self.buffer_size, allowed)

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        return [*super().memory_parts(env), *memory_parts(discretized(env, self), self)]

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The weight of the entropy, times log n for n actions, and the learning rate, if it is
        annealed, when this part of total_steps is done.
        """
        progress = jnp.clip(done / jnp.maximum(self.anneal_fraction, 1e-9), 0.0, 1.0)
        change = progress * (self.entropy_end - self.entropy_start)
        return super().schedules(done) | {"entropy_weight": self.entropy_start + change}

    @property
    def rows_per_step(self) -> int:
        """Vector steps in one `step`."""
        return self.num_steps


class State(NamedTuple):
    """Everything that a run carries; the cache holds the previous policy's logits at the replay's
    successors.
    """

    config: Any
    learner: Learner
    collection: collect.Carry
    replay: replay.Replay
    cache: q_stack.Cache
    key: chex.PRNGKey


def discretized(env: Environment, config: Config) -> Environment:
    """The environment, cut into a grid if its actions are a Box.

    Raises:
      ConfigError: the grid is too fine.
    """
    if not isinstance(env.action_space, Box):
        return env
    try:
        return Discretized(env, config.bins)
    except ValueError as error:
        raise ConfigError("bins", config.bins, str(error)) from error


def make_networks(env: Environment, config: Config) -> nn.Module:
    """A Q-function of all actions, as the config says. It is the policy: it does not see privileged
    observations.
    """
    env = discretized(env, config)
    kind = config.activation, config.initialiser
    layers = make_torso(actor_space(env), config.hidden_sizes, *kind)
    return DiscreteCritic(layers, env.action_space.n, config.initialiser, privileged=False)


def entropy_coef(iteration: chex.Array, num_actions: int, config: Config) -> chex.Array:
    """τ of an iteration: annealed over the first anneal_fraction of total_steps, then constant; per
    log n.
    """
    done = iteration * (config.num_envs * config.num_steps / jnp.float32(config.total_steps))
    return config.schedules(done)["entropy_weight"] / math.log(num_actions)


def mirror_descent(iteration: chex.Array, num_actions: int, config: Config) -> Weights:
    """η = 1/(λ + τ) and β = λ/(λ + τ) of an iteration."""
    eta = 1.0 / (config.kl_weight + entropy_coef(iteration, num_actions, config))
    return Weights(eta, config.kl_weight * eta)


def policy_logits(
    learner: Learner, obs: Any, *, networks: nn.Module, num_actions: int, config: Config
) -> chex.Array:
    """The present policy's logits: observations `[..., *shape]` to `[..., n]`."""
    weights = mirror_descent(learner.iteration, num_actions, config)
    return mask_logits(q_stack.logits(learner.stack, weights, obs, networks), obs)


def update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey | None = None,
    *,
    networks: nn.Module,
    config: Config,
    optimiser: Optimiser = None,
) -> tuple[Learner, Metrics]:
    """One gradient step of the Q-functions towards the soft value of the present policy.

    If a number in the loss, the gradients or what would be written is not finite, or a parameter or
    target has diverged, nothing changes but `learner.fault`.

    Args:
      learner: what is to be updated.
      batch: a minibatch.
      key: not used; here because other algorithms' updates take one.
      networks: the Q-function that belongs to learner.params.
      config: the hyperparameters.
      optimiser: the one that `init_learner` was given, see `core.optimisers`.

    Returns:
      (learner, metrics).

    Raises:
      ConfigError: the shapes of the batch do not fit each other or the networks.
    """
    del key
    fitting.require_minibatch(learner, batch, networks)
    coef = entropy_coef(learner.iteration, batch.next_logits.shape[-1], config)
    new, metrics = gradient_step(
        learner, batch, coef, networks=networks, config=config, optimiser=optimiser
    )
    return guarded(learner, new, metrics), metrics


def make(
    env: Environment,
    config: Config | None = None,
    networks: nn.Module | None = None,
    *,
    optimiser: Optimiser = None,
) -> Algorithm:
    """StaQ on an environment.

    Args:
      env: a single environment, as `envs.make` gives it; a Box of actions is cut into a grid.
      config: the hyperparameters; `Config()` by default.
      networks: an own Q-function, observations `[..., *shape]` to `[..., n]`; by default that of
        `make_networks`.
      optimiser: an own optimiser, see `core.optimisers`; by default Adam.

    Raises:
      ConfigError: the config is not valid for the environment, what it describes cannot fit into
        the device, or the networks or the optimiser do not fit.
    """
    config = Config.of(config)
    config.validate(env)
    env = discretized(env, config)
    networks = fitting.own_or_default(env, config, networks, make_networks, discrete=True)
    capacity = config.buffer_size // config.num_envs
    num_actions = env.action_space.n
    require_fit(env, config, networks, optimiser)
    fresh_learner = partial(init_learner, optimiser=optimiser)
    default_config = config
    policy = q_stack.make_policy(networks, num_actions)
    collector = make_replay_collector(env, config)

    def policy_params(learner, config):
        weights = mirror_descent(learner.iteration, num_actions, config)
        return q_stack.PolicyParams(learner.stack, weights, config.epsilon)

    def init(key: chex.PRNGKey, config: Config | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, start_key, key = jax.random.split(key, 3)
        carry, store = collector.start(start_key, config, ())
        learner = fresh_learner(learner_key, env=env, networks=networks, config=config)
        learner = learner._replace(fault=store.fault)
        cache = q_stack.empty_cache(capacity, parallel.share(config.num_envs), num_actions)
        return State(config, learner, carry, store.replay, cache, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, update_key = jax.random.split(state.key, 3)
        config, learner, ring = state.config, state.learner, state.replay
        num_steps = default_config.num_steps
        params = policy_params(learner, config)
        cache = q_stack.refresh(
            state.cache, learner.stack, params.weights, ring.rows.next_obs, ring.size, networks
        )

        # Collect with the present policy.
        store = Store(ring, learner.fault, ())
        explore = partial(policy.explore, params)
        carry, store, episodes = collector.collect(
            explore, config, state.collection, store, learner.iteration, collect_key, num_steps
        )
        ring = store.replay
        new_rows = (ring.cursor - num_steps + jnp.arange(num_steps)) % capacity
        cache = q_stack.add_rows(cache, learner.stack, new_rows, ring.rows.next_obs, networks)
        in_cache = guard.in_update({"cached logits": cache.logits}, learner.iteration)

        # Evaluate it.
        names = []  # of the metrics, which travel as one vector
        coef = entropy_coef(learner.iteration, num_actions, config)
        one_step = partial(gradient_step, networks=networks, config=config, optimiser=optimiser)

        def one(learner, key_data):
            (sample_key,) = keys.unpack_keys(key_data, update_key)
            batch = sample(ring, cache.logits, sample_key, config)
            learner, metrics = one_step(learner, batch, coef)
            names[:] = metrics
            return learner, jnp.stack(list(metrics.values()))

        num_updates = config.num_envs * num_steps * config.updates_per_step
        key_data = keys.split_for_scan(update_key, num_updates, 1)
        new, metrics = jax.lax.scan(one, learner, key_data)
        metrics = dict(zip(names, metrics.T, strict=True))
        fault = guard.first(store.fault, in_cache)
        learner = guarded(learner._replace(fault=fault), new, metrics)

        # Improve it: the Q-functions go on the stack.
        stack = q_stack.push(learner.stack, learner.params, guard.ok(learner.fault))
        learner = learner._replace(stack=stack, iteration=learner.iteration + 1)
        metrics = jax.tree.map(jnp.mean, metrics) | {"charts/entropy_coef": coef}
        metrics = collect.episode_metrics(*episodes) | metrics | guard.metrics(learner.fault)
        return State(config, learner, carry, ring, cache, key), metrics

    def seen(state: State, obs: Any) -> tuple[Any, Any]:
        return policy_params(state.learner, state.config), obs

    acting = collect.make_acting(env, policy, collector.to_env, seen)
    return Algorithm(
        init,
        step,
        acting.act,
        acting.memory,
        env,
        config,
        steps_per_iteration=config.num_envs * config.num_steps,
        initial_steps=config.prefill_rows * config.num_envs,
        logits=acting.logits,
        replay=("replay", "cache"),
    )
