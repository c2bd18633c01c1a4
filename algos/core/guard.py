"""The guard: NaN, infinity and diverged parameters never reach what is kept, and are reported with
their place.

A fault is an int32 vector `[4]`, so that looking for it costs few kernels: (quantity, iteration,
step, env). quantity is an index into `QUANTITIES`, its code, 0 while all is well; iteration counts
from 0; step is the step in the rollout (or in the prefill) and env the index of the environment,
both −1 if the fault was not met in one.

Whatever an iteration writes passes a check before: what was collected `in_rollout` and `in_reset`,
everything else `in_update`.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from . import masks, parallel

# Beyond it float32's spacing, 0.06, swallows any sensible step of an optimiser.
LARGEST_PARAMETER = 1e6

# Of several that are met at once the first is reported: what comes later often follows from it.
QUANTITIES = (
    "none",
    "observation",
    "reward",
    "reset observation",
    "statistics of the observations",
    "statistics of the returns",
    "diverged parameter",
    "cached logits",
    "loss",
    "gradient",
    "parameter",
    "optimiser state",
    "action mask",
    "data",
)


def init() -> chex.Array:
    """No fault."""
    return jnp.array([0, -1, -1, -1], jnp.int32)


def ok(fault: chex.Array) -> chex.Array:
    """Whether there was no fault: bool scalar."""
    return fault[0] == 0


def finite_per_env(tree: Any) -> chex.Array:
    """Whether all of a rollout's numbers are finite: leaves `[T, N, ...]` to bool `[T, N]`."""
    # A sum is finite only if its terms are, and vectorises better than isfinite of every element.
    shape = jax.tree.leaves(tree)[0].shape[:2]
    sums = [
        jnp.sum(x * 0.0, axis=tuple(range(2, x.ndim)), dtype=jnp.float32) for x in _inexact(tree)
    ]
    return jnp.isfinite(sum(sums, start=jnp.zeros(shape, jnp.float32)))


def _inexact(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]


def in_rollout(
    observation: Any, reward: chex.Array, iteration: chex.Array, first_step: chex.Array | int = 0
) -> chex.Array:
    """The first fault in what was collected: an observation's before a reward's; int32 `[4]`.

    Args:
      observation: observations, leaves `[T, N, ...]`.
      reward: rewards, `[T, N]`.
      iteration: int32.
      first_step: the number of the first of the T steps, int32.
    """
    size = reward.size
    num_envs = reward.shape[1]
    place = jnp.arange(size, dtype=jnp.int32).reshape(reward.shape)
    # One number for the first bad place: below size in an observation, below 2·size in a reward.
    rank = jnp.where(
        finite_per_env(observation),
        jnp.where(finite_per_env(reward), 2 * size, size + place),
        place,
    )
    rank = jnp.min(rank)
    place = rank % size
    found = _fault(
        1 + rank // size,
        iteration,
        first_step + place // num_envs,
        parallel.place(place % num_envs, num_envs),
    )
    return jnp.where(rank < 2 * size, found, init())


def in_masks(obs: Any, iteration: chex.Array, first_step: chex.Array | int = 0) -> chex.Array:
    """The first action mask that allows nothing among observations that were acted on; int32 `[4]`.

    Args:
      obs: the observations, leaves `[T, N, ...]`.
      iteration: int32.
      first_step: the number of the first of the T steps, int32.
    """
    if not masks.has_mask(obs):
        return init()
    nothing = ~jnp.any(obs[masks.ACTION_MASK], axis=-1)
    place = jax.lax.argmax(nothing.ravel(), 0, jnp.int32)
    num_envs = nothing.shape[1]
    code = QUANTITIES.index("action mask")
    env = parallel.place(place % num_envs, num_envs)
    found = _fault(code, iteration, first_step + place // num_envs, env)
    return jnp.where(jnp.any(nothing), found, init())


def in_data(same: chex.Array, iteration: chex.Array) -> chex.Array:
    """The fault of data that are not those that a run began with; int32 `[4]`.

    Args:
      same: bool scalar, whether they are.
      iteration: int32.
    """
    return jnp.where(same, init(), _fault(QUANTITIES.index("data"), iteration, -1, -1))


def in_reset(
    obs: Any, iteration: chex.Array, step: chex.Array | int = -1, stepped: Any = None
) -> chex.Array:
    """The first fault in the observations to act on next, as far as episodes begin with them; int32
    `[4]`.

    Args:
      obs: the observations, leaves `[N, ...]`.
      iteration: int32.
      step: the step after which they come, int32; −1 at the start of a run.
      stepped: the true successors in that step, likewise; one that is not finite is a fault of its
        own.
    """
    bad = ~finite_per_env(_as_row(obs))[0]
    if stepped is not None:
        bad &= finite_per_env(_as_row(stepped))[0]
    env = parallel.place(jax.lax.argmax(bad, 0, jnp.int32), bad.shape[0])
    return jnp.where(
        jnp.any(bad), _fault(QUANTITIES.index("reset observation"), iteration, step, env), init()
    )


def _as_row(tree):
    return jax.tree.map(lambda x: x[None], tree)


def in_update(written: dict[str, Any], iteration: chex.Array) -> chex.Array:
    """The fault in an update, int32 `[4]`.

    Args:
      written: any pytrees, by what they are in `QUANTITIES`: the losses, the gradients, and all
        that would be written. What is a "parameter", and targets are, must also not be beyond
        `LARGEST_PARAMETER`.
      iteration: int32.
    """

    def spoilt(name, x):
        """0 for good numbers, NaN for what is not finite, and a count of parameters that are too
        large.
        """
        too_large = jnp.abs(x) > LARGEST_PARAMETER if name == "parameter" else False
        return jnp.sum(x * 0.0 + too_large, dtype=jnp.float32)

    sums = {}
    for name, tree in written.items():
        sums[name] = sum((spoilt(name, x) for x in _inexact(tree)), jnp.float32(0.0))
    if "parameter" in written:
        sums["diverged parameter"] = jnp.where(sums["parameter"] > 0.0, jnp.nan, 0.0)
    codes = np.array([QUANTITIES.index(name) for name in sums], np.int32)
    bad = ~jnp.isfinite(jnp.stack(list(sums.values())))
    quantity = jnp.min(jnp.where(bad, codes, len(QUANTITIES)))
    return jnp.where(jnp.any(bad), _fault(quantity, iteration, -1, -1), init())


def _fault(*numbers):
    return jnp.stack([jnp.asarray(x, jnp.int32) for x in numbers])


def first(*faults: chex.Array) -> chex.Array:
    """The first of several that is one, else none."""
    *earlier, last = faults
    for fault in reversed(earlier):
        last = jnp.where(ok(fault), last, fault)
    return last


def agreed(fault: chex.Array) -> chex.Array:
    """A fault that all devices know: of those that they met in the same iteration the first in the
    order of `QUANTITIES`, then of steps, then of environments.
    """
    if parallel.size() == 1:
        return fault
    each = parallel.gathered(fault[None])
    quantity = jnp.where(each[:, 0] > 0, each[:, 0], len(QUANTITIES))
    return each[jnp.lexsort((each[:, 3], each[:, 2], quantity))[0]]


def keep(condition: chex.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar condition holds, else `old`, for a whole pytree."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def metrics(fault: chex.Array) -> dict[str, chex.Array]:
    """`charts/fault`: the code of the fault, 0 if there was none; float32 as other metrics are."""
    return {"charts/fault": fault[0].astype(jnp.float32)}


def describe(fault: Any) -> str | None:
    """One sentence about a fault on the host, or None if there was none.

    Args:
      fault: `state.learner.fault`, int32 `[4]`, or of several seeds, `[S, 4]`; or codes as in the
        metric `charts/fault`: one, or an array with any axes, such as a history of several seeds.
    """
    array = np.asarray(fault)
    if array.dtype != np.int32 or array.shape[-1:] != (4,):
        places = np.argwhere(array)
        if not places.size and not np.any(array):
            return None
        where = f", first at {places[0].tolist()}" if array.ndim else ""
        return _words(int(array[tuple(places[0])])) + where
    faults = array.reshape(-1, 4)
    seeds = np.flatnonzero(faults[:, 0])
    if not seeds.size:
        return None
    quantity, iteration, step, env = faults[seeds[0]].tolist()
    place = f", step {step} of the rollout" if step >= 0 else ""
    place += f", environment {env}" if env >= 0 else ""
    which = f" of seed {seeds[0]}" if len(faults) > 1 else ""
    return f"{_words(quantity)} in iteration {iteration}{which}{place}"


def _words(quantity):
    other = {
        "diverged parameter": "diverged: a parameter beyond 1e6",
        "action mask": "an action mask that allows nothing",
        "data": "other data than the run began with",
    }
    name = QUANTITIES[quantity]
    return other.get(name, f"non-finite {name}")
