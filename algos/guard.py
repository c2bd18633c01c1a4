"""The non-finite guard: NaN and infinity never reach parameters or statistics, and are reported with their place."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

QUANTITIES = ("none", "observation", "reward", "loss", "gradient, parameter or statistic")


class Fault(NamedTuple):
    """The first non-finite number of a run; int32 scalars.

    Attributes:
      quantity: index into `QUANTITIES`; 0 while all is well.
      iteration: the iteration it was met in, from 0.
      step: the step in the rollout, −1 if it was not met in one.
      env: the index of the environment, −1 if it was not met in one.
    """

    quantity: chex.Array
    iteration: chex.Array
    step: chex.Array
    env: chex.Array


def init() -> Fault:
    """No fault."""
    return Fault(jnp.int32(0), jnp.int32(-1), jnp.int32(-1), jnp.int32(-1))


def all_finite(tree: Any) -> chex.Array:
    """Whether every inexact number in a pytree is finite: bool scalar."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    # A sum is finite only if its terms are, and vectorises better than isfinite of every element.
    return jnp.isfinite(sum(jnp.sum(x * 0.0, dtype=jnp.float32) for x in leaves))


def finite_per_env(tree: Any) -> chex.Array:
    """Whether all of a rollout's numbers are finite: leaves `[T, N, ...]` to bool `[T, N]`."""
    # isfinite is true of every integer
    flags = [jnp.all(jnp.isfinite(x), axis=tuple(range(2, x.ndim))) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(flags), axis=0)


def find(observation: Any, reward: chex.Array, loss: Any, written: Any, iteration: chex.Array) -> Fault:
    """The first fault of an iteration, in the order of `QUANTITIES`.

    Args:
      observation: rollout's observations, leaves `[T, N, ...]`.
      reward: rollout's rewards, `[T, N]`.
      loss: the losses of the iteration, any pytree.
      written: the gradients, and what the update would write: parameters, optimiser and statistics; any pytree.
      iteration: int32.
    """
    bad = jnp.stack([~finite_per_env(observation), ~finite_per_env(reward)])  # [2, T, N]
    any_bad = jnp.any(bad, axis=(1, 2))
    flags = jnp.concatenate([any_bad, ~jnp.stack([all_finite(loss), all_finite(written)])])
    quantity = jnp.where(jnp.any(flags), 1 + jnp.argmax(flags), 0).astype(jnp.int32)
    in_rollout = any_bad[0] | any_bad[1]
    _, num_steps, num_envs = bad.shape
    place = jnp.argmax(jnp.where(any_bad[0], bad[0], bad[1]).reshape(num_steps * num_envs)).astype(jnp.int32)
    none = jnp.int32(-1)
    return Fault(
        quantity=quantity,
        iteration=jnp.where(quantity > 0, iteration, none),
        step=jnp.where(in_rollout, place // num_envs, none),
        env=jnp.where(in_rollout, place % num_envs, none),
    )


def first(earlier: Fault, later: Fault) -> Fault:
    """The earlier fault if there was one, else the later."""
    return keep(earlier.quantity == 0, later, earlier)


def keep(condition: chex.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar condition holds, else `old`, for a whole pytree."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def describe(fault: Fault) -> str | None:
    """One sentence about a fault on the host, or None if there was none. Seeds may be stacked along one axis."""
    quantity = jnp.atleast_1d(fault.quantity)
    if not jnp.any(quantity > 0):
        return None
    seed = int(jnp.argmax(quantity > 0))
    fault = jax.tree.map(lambda x: int(jnp.atleast_1d(x)[seed]), fault)
    place = f", step {fault.step} of the rollout, environment {fault.env}" if fault.env >= 0 else ""
    which = f" of seed {seed}" if quantity.size > 1 else ""
    return f"non-finite {QUANTITIES[fault.quantity]} in iteration {fault.iteration}{which}{place}"
