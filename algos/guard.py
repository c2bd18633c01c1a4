"""The non-finite guard: NaN and infinity never reach parameters or statistics, and are reported with their place.

A fault is an int32 vector `[4]`, so that looking for it costs few kernels: (quantity, iteration, step, env). quantity
is an index into `QUANTITIES`, 0 while all is well; iteration counts from 0; step is the step in the rollout and env the
index of the environment, both −1 if the fault was not met in one.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

QUANTITIES = ("none", "observation", "reward", "loss", "gradient, parameter or statistic")


def init() -> chex.Array:
    """No fault."""
    return jnp.array([0, -1, -1, -1], jnp.int32)


def ok(fault: chex.Array) -> chex.Array:
    """Whether there was no fault: bool scalar."""
    return fault[0] == 0


def all_finite(tree: Any) -> chex.Array:
    """Whether every inexact number in a pytree is finite: bool scalar."""
    # A sum is finite only if its terms are, and vectorises better than isfinite of every element.
    return jnp.isfinite(sum(jnp.sum(x * 0.0, dtype=jnp.float32) for x in _inexact(tree)))


def finite_per_env(tree: Any) -> chex.Array:
    """Whether all of a rollout's numbers are finite: leaves `[T, N, ...]` to bool `[T, N]`."""
    shape = jax.tree.leaves(tree)[0].shape[:2]
    sums = [jnp.sum(x * 0.0, axis=tuple(range(2, x.ndim)), dtype=jnp.float32) for x in _inexact(tree)]
    return jnp.isfinite(sum(sums, start=jnp.zeros(shape, jnp.float32)))


def _inexact(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def in_rollout(observation: Any, reward: chex.Array, iteration: chex.Array) -> chex.Array:
    """The first fault in what was collected: an observation's before a reward's; int32 `[4]`.

    Args:
      observation: observations, leaves `[T, N, ...]`.
      reward: rewards, `[T, N]`.
      iteration: int32.
    """
    size, num_envs = reward.size, reward.shape[1]
    place = jnp.arange(size, dtype=jnp.int32).reshape(reward.shape)
    # One number for the first bad place: below size in an observation, below 2·size in a reward.
    rank = jnp.where(finite_per_env(observation), jnp.where(finite_per_env(reward), 2 * size, size + place), place)
    rank = jnp.min(rank)
    place = rank % size
    found = jnp.stack([1 + rank // size, iteration, place // num_envs, place % num_envs])
    return jnp.where(rank < 2 * size, found, init())


def in_update(loss: Any, written: Any, iteration: chex.Array) -> chex.Array:
    """The fault in an update, int32 `[4]`.

    Args:
      loss: the losses, any pytree.
      written: the gradients, and what the update would write: parameters, optimiser and statistics; any pytree.
      iteration: int32.
    """
    quantity = jnp.where(all_finite(loss), jnp.where(all_finite(written), 0, 4), 3)
    found = jnp.stack([quantity, iteration, jnp.int32(-1), jnp.int32(-1)])
    return jnp.where(quantity > 0, found, init())


def first(*faults: chex.Array) -> chex.Array:
    """The first of several that is one, else none."""
    *earlier, last = faults
    for fault in reversed(earlier):
        last = jnp.where(ok(fault), last, fault)
    return last


def keep(condition: chex.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar condition holds, else `old`, for a whole pytree."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def describe(fault: chex.Array) -> str | None:
    """One sentence about a fault on the host, or None if there was none. Seeds may be stacked in front: `[S, 4]`."""
    faults = np.asarray(fault).reshape(-1, 4)
    seeds = np.flatnonzero(faults[:, 0])
    if not seeds.size:
        return None
    quantity, iteration, step, env = faults[seeds[0]]
    place = f", step {step} of the rollout, environment {env}" if env >= 0 else ""
    which = f" of seed {seeds[0]}" if len(faults) > 1 else ""
    return f"non-finite {QUANTITIES[quantity]} in iteration {iteration}{which}{place}"
