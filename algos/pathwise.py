"""Pathwise policy gradients: the return is differentiated through the environment itself. For
inventories this is HDPO (Alvo et al., 2023, "Hindsight Differentiable Policy Optimization", arXiv
2306.11246), for simulated robots it is known as analytic policy gradients (Freeman et al., 2021,
Brax, arXiv 2106.13281).

One `step` is horizon steps of num_envs environments, which go on where they stopped, and one step
of Adam on minus the mean reward of these. No critic: what comes after the horizon counts for
nothing, whether an episode was cut there by its time limit or goes on. With horizon = the length of
an episode each iteration is a batch of whole episodes from fresh starts, which is HDPO.

`step` and `reset` of the environment must be differentiable, as those of `inventory/store` and of
Brax without contacts are. On a robot with contacts nothing was learned, see
docs/papers.md. Steps are computed again on the way back (`jax.checkpoint`), so that memory is that
of the environments' states. Differs from the released code of HDPO in that actions are in a bounded
Box, by tanh, where it has a softplus of the network's output (a policy that is clipped has no
gradient beyond the bounds); in that the learning rate
is annealed; and in that a wrong number stops the run. The published sizes are 3 layers of 32 with
elu, learning rate 3e-3, batches of 8192 traces of 50 periods.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ..envs import Box, Environment
from ..envs.base import EnvState, Step
from ..envs.wrapper import Wrapper
from .actor_only import loop
from .actor_only.config import ActorOnlyConfig
from .actor_only.loop import Networks, Room, make_networks
from .core import collect, guard, parallel
from .core.algorithm import Metrics, single
from .core.collect import Transition
from .core.config import configclass, static, traced
from .core.networks import sample_obs

__all__ = [
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "loss",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(ActorOnlyConfig):
    """Hyperparameters of pathwise policy gradients."""

    max_grad_norm: float = traced(
        1.0, "Largest global norm of the gradient.", above=0, high=float("inf")
    )
    anneal_lr: bool = static(
        True, "Whether the learning rate falls linearly to 0 over total_steps."
    )
    explore: bool = static(
        False, "Whether actions are samples, through which gradients go too, instead of the mode."
    )
    policy: str = "tanh_gaussian"
    activation: str = "elu"

    ACTION_SPACES = (Box,)

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """The learning rate when this part of total_steps is done, if it is annealed."""
        return {"learning_rate": self.learning_rate * (1.0 - done)} if self.anneal_lr else {}


class Learner(NamedTuple):
    """What an iteration changes.

    Attributes:
      params: of the policy network.
      opt_state: of Adam.
      iteration: updates so far, int32.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    opt_state: Any
    iteration: chex.Array
    fault: chex.Array


class Recomputed(Wrapper):
    """An environment of which the way back computes each step again instead of keeping it."""

    def step(self, key: chex.PRNGKey, state: EnvState, action: chex.Array) -> tuple[EnvState, Step]:
        """Advances by one step."""
        return jax.checkpoint(self.env.step)(key, state, action)


def _optimiser(config, learning_rate):
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(learning_rate))


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters and optimiser for an environment."""
    params = single(networks.policy.init(key, sample_obs(env)))
    opt_state = single(_optimiser(config, config.learning_rate).init(params))
    return Learner(params, opt_state, jnp.int32(0), guard.init())


def loss(
    params: Any, collection: collect.Carry, key: chex.PRNGKey, room: Room
) -> tuple[chex.Array, tuple[collect.Carry, Transition, tuple]]:
    """Minus the mean reward of horizon steps, a scalar; and where they end, the steps `[T, N, ...]`
    and the episodes in them.
    """

    def explore(memory, obs, key):
        if room.config.explore:
            return room.policy.explore(params, memory, obs, key)
        action, memory = room.policy.act(params, memory, obs)
        return action, (), memory

    collection, _, batch, episodes = room.collector.collect(
        explore, room.config, collection, key, room.config.horizon
    )
    return -jnp.mean(batch.reward), (collection, batch, episodes)


def update(
    learner: Learner, collection: collect.Carry, key: chex.PRNGKey, room: Room
) -> tuple[Learner, collect.Carry, tuple, Metrics]:
    """One step of Adam on the loss of the steps that follow `collection`.

    Args:
      learner: what is to be updated.
      collection: where the environments are.
      key: a typed key.
      room: environments, networks and config, see `loop.Room`.

    Returns:
      (learner, where the environments are then, the episodes that ended, metrics). If a number is
      not finite, or a parameter has diverged, the learner keeps its parameters, and so it stays.
    """
    config = room.config
    steps = jax.grad(loss, has_aux=True)
    grads, (collection, batch, episodes) = steps(learner.params, collection, key, room)
    grads = parallel.mean(grads)
    done = learner.iteration * (config.steps_per_iteration / jnp.float32(config.total_steps))
    schedules = config.schedules(jnp.minimum(done, 1.0))
    optimiser = _optimiser(config, schedules.get("learning_rate", config.learning_rate))
    updates, opt_state = optimiser.update(grads, learner.opt_state, learner.params)
    params = optax.apply_updates(learner.params, updates)
    metrics = {
        "losses/policy_loss": -jnp.mean(batch.reward),
        "losses/grad_norm": optax.tree.norm(grads),
    }
    written = {"gradient": grads, "parameter": params, "optimiser state": opt_state}
    last = jax.tree.map(lambda x: x[-1], batch.next_obs)
    fault = guard.first(
        learner.fault,
        guard.in_rollout((batch.obs, batch.next_obs), batch.reward, learner.iteration),
        guard.in_reset(collection.obs, learner.iteration, config.horizon - 1, last),
        guard.in_update(written, learner.iteration),
    )
    fault = guard.agreed(fault)
    kept = guard.keep(guard.ok(fault), (params, opt_state), learner[:2])
    return Learner(*kept, learner.iteration + 1, fault), collection, episodes, metrics


make = loop.maker(Config, init_learner, update, goes_on=True, wrap=Recomputed)
