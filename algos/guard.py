"""The non-finite guard: NaN and infinity never reach parameters or statistics, and are reported with their place.

A fault is an int32 vector `[4]`, so that looking for it costs few kernels: (quantity, iteration, step, env). quantity is
an index into `QUANTITIES`, 0 while all is well; iteration counts from 0; step is the step in the rollout and env the
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


def find(observation: Any, reward: chex.Array, loss: Any, written: Any, iteration: chex.Array) -> chex.Array:
    """The first fault of an iteration, in the order of `QUANTITIES`, int32 `[4]`.

    Args:
      observation: rollout's observations, leaves `[T, N, ...]`.
      reward: rollout's rewards, `[T, N]`.
      loss: the losses of the iteration, any pytree.
      written: the gradients, and what the update would write: parameters, optimiser and statistics; any pytree.
      iteration: int32.
    """
    size, num_envs = reward.size, reward.shape[1]
    place = jnp.arange(size, dtype=jnp.int32).reshape(reward.shape)
    # One number for the first bad place: below size in an observation, below 2·size in a reward.
    rank = jnp.where(finite_per_env(observation), jnp.where(finite_per_env(reward), 2 * size, size + place), place)
    rank = jnp.min(rank)
    after = jnp.where(all_finite(loss), jnp.where(all_finite(written), 0, 4), 3)
    quantity = jnp.where(rank < 2 * size, 1 + rank // size, after)
    place = jnp.where(rank < 2 * size, rank % size, -num_envs)
    found = jnp.stack([quantity, iteration, place // num_envs, jnp.where(place < 0, -1, place % num_envs)])
    return jnp.where(quantity > 0, found, init())


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
