"""The on-policy loop: collect a rollout, estimate advantages, take passes of minibatch steps on it.

PPO, SPO and MDPO are this loop with a loss of their own. One `step` takes num_envs·num_steps
environment steps, and then what `policy_gradient.update` says.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax

from ...envs import Discrete, Environment, VectorEnv
from ..core import collect, fitting, guard, memory
from ..core.algorithm import Algorithm, Metrics
from ..core.memory import Part
from ..core.networks import Networks, make_actor_critic, rows
from .policy_gradient import Learner, OnPolicyConfig, init_learner, normalize_obs


class State(NamedTuple):
    """Everything that a run carries."""

    config: Any
    learner: Learner
    env_state: Any
    obs: Any
    key: chex.PRNGKey


def _require_memory(
    env: Environment, config: OnPolicyConfig, networks: Networks, learner: Learner
) -> None:
    """Refuses what cannot fit into the device: the config's own parts, the networks, and what their
    passes keep.
    """
    size, sizes = config.num_envs * config.num_steps, ("num_envs", "num_steps")
    # One series of passes is over both networks, two are over one each.
    trained = [("policy", "value")] if len(config.passes) == 1 else [("policy",), ("value",)]
    activations = []
    for names, (_, num_minibatches) in zip(trained, config.passes, strict=True):
        obs = rows(env.observation_space, size // num_minibatches)
        kept = sum(
            memory.backward_bytes(getattr(networks, name), learner.params[name], obs)
            for name in names
        )
        what = f"the activations on a minibatch of {size // num_minibatches:,}"
        activations.append(Part(sizes, kept, what))
    memory.require(
        config,
        *config.memory_parts(env),
        Part(("hidden_sizes",), memory.tree_bytes(learner), "the networks and their optimiser"),
        max(activations, key=lambda part: part.bytes),
    )


def make(
    env: Environment, config: OnPolicyConfig, networks: Networks | None, update: Callable
) -> Algorithm:
    """Builds an on-policy algorithm from its update.

    Args:
      env: the single environment.
      config: the hyperparameters; its static fields hold for every State.
      networks: policy, value and head; by default those of `make_actor_critic`.
      update: (learner, batch, key, *, networks, config) -> (learner, metrics).

    Raises:
      ConfigError: the config is not valid for the environment.
    """
    config.validate(env)
    own = networks is not None
    if own:
        fitting.require_parts(networks, *Networks._fields)
    networks = networks if own else make_actor_critic(env, config)
    shape = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
    if own:
        fitting.require_actor_critic(env, networks, shape.params)
    _require_memory(env, config, networks, shape)
    envs = VectorEnv(env, config.num_envs, reset=config.reset)
    default_config, head = config, networks.head

    def init(key: chex.PRNGKey, config: OnPolicyConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, env_key, key = jax.random.split(key, 3)
        env_state, obs = envs.reset(env_key)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = learner._replace(fault=guard.in_reset(obs, learner.iteration))
        return State(config, learner, env_state, obs, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, rollout_key, update_key = jax.random.split(state.key, 3)
        learner = state.learner

        def select_action(key, obs):
            distribution = policy(learner, obs)
            action = head.sample(key, distribution)
            return action, head.log_prob(action, distribution)

        env_state, obs, batch, episodes = collect.collect(
            envs,
            select_action,
            head.to_env,
            state.env_state,
            state.obs,
            rollout_key,
            config.num_steps,
        )
        stepped = jax.tree.map(lambda x: x[-1], batch.next_obs)
        at_reset = guard.in_reset(obs, learner.iteration, config.num_steps - 1, stepped)
        learner = learner._replace(fault=guard.first(learner.fault, at_reset))
        learner, metrics = update(
            learner, batch, update_key, networks=networks, config=state.config
        )
        return State(
            state.config, learner, env_state, obs, key
        ), episodes | metrics | guard.metrics(learner.fault)

    def policy(learner: Learner, obs: Any) -> Any:
        return networks.policy.apply(learner.params["policy"], normalize_obs(learner, obs))

    def act(state: State, obs: Any, key: chex.PRNGKey, deterministic: bool) -> chex.Array:
        distribution = policy(state.learner, obs)
        return head.to_env(
            head.mode(distribution) if deterministic else head.sample(key, distribution)
        )

    def logits(state: State, obs: Any) -> chex.Array:
        return policy(state.learner, obs)

    steps, discrete = config.num_envs * config.num_steps, isinstance(env.action_space, Discrete)
    return Algorithm(init, step, act, env, config, steps, logits=logits if discrete else None)
