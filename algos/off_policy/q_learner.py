"""What StaQ updates, and how: an ensemble of Q-functions of all actions, towards a soft value."""

from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ... import losses
from ...envs import Environment
from ..core import device_memory, fitting, guard, optimisers, parallel
from ..core.algorithm import Metrics, single
from ..core.device_memory import Part
from ..core.masks import mask_logits
from ..core.networks import rows, sample_obs
from ..core.optimisers import Optimiser
from . import q_stack, replay
from .actor_critic import q_of_action
from .config import ReplayConfig
from .networks import apply_ensemble, init_ensemble
from .q_stack import Stack


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
      stack: the last Q-functions, which are the policy.
      updates: gradient steps so far, int32.
      iteration: iterations so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    targets: Any
    opt_state: Any
    stack: Stack
    updates: chex.Array
    iteration: chex.Array
    fault: chex.Array


def init_learner(
    key: chex.PRNGKey,
    *,
    env: Environment,
    networks: nn.Module,
    config: ReplayConfig,
    optimiser: Optimiser = None,
) -> Learner:
    """Fresh parameters and optimiser, and an empty stack."""
    params = single(init_ensemble(networks, key, config.num_critics, sample_obs(env)))
    return Learner(
        params=params,
        targets=jax.tree.map(jnp.copy, params),
        opt_state=single(_optimiser(optimiser, config.learning_rate).init(params)),
        stack=q_stack.init(params, config.memory),
        updates=jnp.int32(0),
        iteration=jnp.int32(0),
        fault=guard.init(),
    )


def _optimiser(optimiser, learning_rate):
    made = optax.adam if optimiser is None else optimiser
    return optimisers.transformation(made, learning_rate)


def sample(
    ring: replay.Replay, next_logits: chex.Array, key: chex.PRNGKey, config: ReplayConfig
) -> Batch:
    """A minibatch from the replay and the logits beside it."""
    row, env = replay.sample_places(ring, key, (parallel.share(config.batch_size),))
    taken = replay.take(ring.rows._asdict() | {"next_logits": next_logits}, row[0], env)
    return Batch(
        obs=taken["obs"],
        action=taken["action"],
        reward=taken["reward"] * config.reward_scale,
        discount=config.gamma * (1.0 - taken["terminated"]),
        next_obs=taken["next_obs"],
        next_logits=mask_logits(taken["next_logits"], taken["next_obs"]),
    )


def gradient_step(
    learner: Learner,
    batch: Batch,
    entropy_coef: chex.Array,
    *,
    networks: nn.Module,
    config: ReplayConfig,
    optimiser: Optimiser = None,
) -> tuple[Learner, Metrics]:
    """One gradient step towards the soft value of the policy whose logits are in the batch."""
    config = config.annealed(learner.iteration)
    probs = jax.nn.softmax(batch.next_logits)
    next_q = q_stack.mean_q(networks, learner.targets, batch.next_obs)
    next_q = jnp.sum(probs * next_q, axis=-1)
    entropy = losses.categorical_entropy(batch.next_logits)
    target = losses.staq_target(
        batch.reward, batch.discount, next_q, entropy, entropy_coef=entropy_coef
    )

    def loss(params):
        q = q_of_action(lambda obs: apply_ensemble(networks, params, obs), batch)
        critic_loss = jnp.mean(losses.squared_td_loss(q, jnp.broadcast_to(target, q.shape)))
        return critic_loss, {"losses/critic_loss": critic_loss, "losses/q": jnp.mean(q)}

    grads, metrics = jax.grad(loss, has_aux=True)(learner.params)
    grads = parallel.mean(grads)
    if optimisers.follows_learning_rate(optimiser):
        metrics["charts/learning_rate"] = jnp.asarray(config.learning_rate)
    step = _optimiser(optimiser, config.learning_rate)
    changes, opt_state = step.update(grads, learner.opt_state, learner.params)
    params = optax.apply_updates(learner.params, changes)
    updates = learner.updates + 1
    weight = jnp.where(updates % config.target_interval == 0, config.tau, 0.0)
    targets = optax.incremental_update(params, learner.targets, weight)
    metrics |= {
        "losses/entropy": jnp.mean(entropy),
        "losses/critic_grad_norm": optax.tree.norm(grads),
    }
    learner = learner._replace(params=params, targets=targets, opt_state=opt_state, updates=updates)
    return learner, metrics


def guarded(old: Learner, new: Learner, metrics: Metrics) -> Learner:
    """`new` if there was no fault, also none before, else `old` with the fault; both have the same
    stack.
    """
    written = {
        "loss": (metrics["losses/critic_loss"], metrics["losses/entropy"]),
        "gradient": metrics["losses/critic_grad_norm"],
        "parameter": (new.params, new.targets),
        "optimiser state": new.opt_state,
    }
    found = guard.in_update(written, old.iteration)
    fault = guard.agreed(guard.first(old.fault, found))
    learned = ("params", "targets", "opt_state", "updates")
    kept = guard.keep(
        guard.ok(fault), *({name: getattr(x, name) for name in learned} for x in (new, old))
    )
    return old._replace(**kept, fault=fault)


def memory_parts(env: Environment, config: ReplayConfig) -> list[Part]:
    """What an iteration holds at once, beside networks and replay."""
    num_actions = env.action_space.n
    cached = 4.0 * config.buffer_size * num_actions
    row = 2.0 * device_memory.space_bytes(env.observation_space) + 12 + 4 * num_actions
    # a key and a row of metrics for each
    updates = 48.0 * config.num_envs * config.num_steps * config.updates_per_step
    return [
        Part(("buffer_size", "bins"), cached, f"logits of {num_actions:,} actions in the replay"),
        Part(("batch_size",), config.batch_size * row, "a minibatch"),
        Part(
            ("updates_per_step", "num_envs", "num_steps"),
            updates,
            "the gradient steps of an iteration",
        ),
    ]


def require_fit(
    env: Environment, config: ReplayConfig, networks: nn.Module, optimiser: Optimiser
) -> None:
    """Refuses an optimiser that does not fit the networks, and what cannot fit into the device:
    the config's own parts, the stack, and what the passes keep.

    Raises:
      ConfigError: names what does not fit.
    """
    learner = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
    if optimiser is not None:
        optimisers.require(optimiser, [])
        optimisers.require_step(partial(_optimiser, optimiser), learner.params)
        init = partial(init_learner, optimiser=optimiser)
        learner = fitting.learner_shape(init, env=env, networks=networks, config=config)
    obs = rows(env.observation_space, config.batch_size)
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learner.params)
    kept = config.num_critics * device_memory.backward_bytes(networks, params, obs)
    device_memory.require(
        config,
        *config.memory_parts(env),
        Part(
            ("memory", "num_critics"), device_memory.tree_bytes(learner), "the stack of Q-functions"
        ),
        Part(("batch_size", "num_critics"), kept, "the activations on a minibatch"),
    )
