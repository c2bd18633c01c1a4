"""Gradients and curvature of the return by scores of whole trajectories: what N-PG-IGT and HARPG
share.

A batch is one trajectory of each environment, from a fresh start, of at most config.horizon steps;
what follows the end of an episode is masked. There is no value to bootstrap from: where the horizon
or a time limit cuts an episode, what is maximised is the return until then.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ...envs import Environment
from ..core import guard, parallel
from ..core.algorithm import Metrics, single
from ..core.collect import Transition
from ..core.config import configclass, traced
from ..core.networks import sample_obs
from .config import ActorOnlyConfig
from .loop import Networks, Room


@configclass
class TrajectoryConfig(ActorOnlyConfig):
    """What the algorithms of whole trajectories have in common."""

    learning_rate: float = traced(0.1, "γ₀, length of the first step.", above=0)
    step_power: float = traced(1.0, "Steps fall with (2/(t + 2)) to this power.", low=0)
    momentum: float = traced(1.0, "η₀, weight of the new gradient at the start.", above=0, high=1)
    momentum_power: float = traced(1.0, "That weight falls with (2/(t + 2)) to this power.", low=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    num_envs: int = 16
    horizon: int = 200
    hidden_sizes: tuple[int, ...] = (32, 32)


class Learner(NamedTuple):
    """What an iteration changes.

    Attributes:
      params: θ, of the policy network.
      previous: θ of one iteration before.
      direction: d, the estimate of the gradient that is carried on.
      iteration: updates so far, int32; t of the schedules.
      fault: the first non-finite number that was met, or a parameter that has diverged, see
        `guard`.
    """

    params: Any
    previous: Any
    direction: Any
    iteration: chex.Array
    fault: chex.Array


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: TrajectoryConfig
) -> Learner:
    """Fresh parameters, that have not moved."""
    del config
    params = single(networks.policy.init(key, sample_obs(env)))
    copies = jax.tree.map(jnp.copy, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Learner(params, copies, zeros, jnp.int32(0), guard.init())


def collect(params: Any, key: chex.PRNGKey, room: Room) -> tuple[Transition, tuple]:
    """A trajectory of each environment under these parameters, `[T, N, ...]`, and the episodes that
    ended in them.
    """
    reset_key, key = jax.random.split(key)
    carry = room.collector.reset(reset_key, room.config)

    def explore(memory, obs, key):
        return room.policy.explore(params, memory, obs, key)

    _, _, batch, (done, *rest) = room.collector.collect(
        explore, room.config, carry, key, room.config.horizon
    )
    return batch, (done & alive(batch), *rest)


def alive(batch: Transition) -> chex.Array:
    """Which steps belong to the first episode of each environment, bool `[T, N]`."""
    done = batch.terminated | batch.truncated
    before = jnp.cumsum(done, axis=0) - done
    return before == 0


def score_weights(reward: chex.Array, mask: chex.Array, *, gamma: float | chex.Array) -> chex.Array:
    """What the scores are weighted with: Ψ_t = Σ_{h≥t} γ^h·r_h, less its mean over the other
    trajectories that are still going on at t.

    The discount counts from the start of the trajectory, so that the gradient is that of the
    discounted return. The other trajectories are independent of this one: the mean leaves the
    gradient, and the curvature, as they are on average.

    Args:
      reward: `[T, N]`.
      mask: which steps count, bool `[T, N]`.
      gamma: discount per step.

    Returns:
      Ψ, `[T, N]`, 0 where mask is not set. Trajectories of other devices count among the others.

    Source: Baxter and Bartlett 2001 (GPOMDP), as in Fatkhullin et al. 2023; the released code has a
    linear baseline that is fitted to the last batch.
    """
    discounts = gamma ** jnp.arange(len(reward), dtype=jnp.float32)
    rewards = jnp.where(mask, discounts[:, None] * reward, 0.0)
    to_go = jnp.cumsum(rewards[::-1], axis=0)[::-1]
    each = jnp.where(mask, to_go, 0.0), mask.astype(jnp.float32)
    total, count = parallel.total([jnp.sum(x, axis=1, keepdims=True) for x in each])
    others = count - 1.0
    baseline = jnp.where(others > 0, (total - to_go) / jnp.maximum(others, 1.0), 0.0)
    return jax.lax.stop_gradient(jnp.where(mask, to_go - baseline, 0.0))


def log_probs(params: Any, batch: Transition, networks: Networks) -> chex.Array:
    """log π(a|s) of each step, `[T, N]`."""
    return networks.head.log_prob(batch.action, networks.policy.apply(params, batch.obs))


def gradient(params: Any, batch: Transition, weights: chex.Array, networks: Networks) -> Any:
    """The policy gradient, the mean over trajectories of Σ_t Ψ_t·∇log π(a_t|s_t), of the structure
    of the parameters.

    Args:
      params: those that the batch was collected under.
      batch: trajectories, `[T, N, ...]`.
      weights: Ψ, `[T, N]`, 0 for steps that do not count.
      networks: the networks.
    """

    def objective(params):
        return jnp.mean(jnp.sum(weights * log_probs(params, batch, networks), axis=0))

    return parallel.mean(jax.grad(objective)(params))


def hessian_vector_product(
    params: Any,
    batch: Transition,
    weights: chex.Array,
    mask: chex.Array,
    vector: Any,
    networks: Networks,
) -> Any:
    """∇²J(θ)·u without bias: the mean over trajectories of ∇Φ·(∇log p(τ)ᵀu) + ∇²Φ·u with Φ = Σ_t
    Ψ_t·log π(a_t|s_t).

    The product is formed in each trajectory. The released code multiplies two means over the batch,
    which is another number on average, but for batches of one.

    Args:
      params: θ, those that the batch was collected under.
      batch: trajectories, `[T, N, ...]`.
      weights: Ψ, `[T, N]`, 0 for steps that do not count.
      mask: which steps count, bool `[T, N]`.
      vector: u, of the structure of the parameters.
      networks: the networks.

    Source: Shen et al. 2019, as in Fatkhullin et al. 2023, section 5.
    """

    def phi(params):
        return jnp.sum(weights * log_probs(params, batch, networks), axis=0)

    def log_p(params):
        return jnp.sum(jnp.where(mask, log_probs(params, batch, networks), 0.0), axis=0)

    along = jax.jvp(log_p, (params,), (vector,))[1]  # [N]
    outer = jax.grad(lambda params: jnp.mean(along * phi(params)))(params)
    inner = jax.jvp(jax.grad(lambda params: jnp.mean(phi(params))), (params,), (vector,))[1]
    return parallel.mean(jax.tree.map(jnp.add, outer, inner))


def finish(
    learner: Learner, params: Any, direction: Any, grads: Any, *batches: Transition
) -> tuple[Learner, Metrics]:
    """The learner with new parameters and direction, if all that was met and is written is finite;
    else as it was, with the fault.
    """
    rollouts = [
        guard.in_rollout((each.obs, each.next_obs), each.reward, learner.iteration)
        for each in batches
    ]
    masks = [guard.in_masks(each.obs, learner.iteration) for each in batches]
    written = {"gradient": (grads, direction), "parameter": params}
    in_update = guard.in_update(written, learner.iteration)
    fault = guard.agreed(guard.first(learner.fault, *rollouts, *masks, in_update))
    new = (params, learner.params, direction)
    kept = guard.keep(guard.ok(fault), new, learner[:3])
    metrics = {
        "losses/grad_norm": optax.tree.norm(grads),
        "losses/direction_norm": optax.tree.norm(direction),
    }
    return Learner(*kept, learner.iteration + 1, fault), metrics
