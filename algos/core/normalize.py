"""Running mean and variance of a stream of arrays, for observations and for returns.

Works on any pytree. The weight of a new batch in the mean is n/(all so far), but never below 1e-5:
beyond a hundred thousand batches old data is forgotten exponentially. So the statistics go on
adapting however long the run, in float32, and the count, float32 too, may stop growing without
consequence.

The standard deviation of an observation counts as 0.001 at least. So what was constant so far, in a
warm-up say, and then moves by 0.001 is seen as 1, where a bound of 1e-4 would show 10 and saturate
the networks; and what has a standard deviation of 0.001 by nature is still seen with one of 1.
FastTD3's code adds 0.01 to all of them: such a feature then all but vanishes, at 0.09. Rewards are
scaled by statistics that include them, and need no such care.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Space
from . import parallel
from .masks import ACTION_MASK

_MIN_WEIGHT = 1e-5
_MIN_STD = 1e-3  # of observations
_EPSILON = 1e-8  # for rewards, so that 0 is not divided by 0


class Statistics(NamedTuple):
    """Running moments.

    Attributes:
      count: how much data went in, float32.
      mean: the mean, float32, a pytree like one element of the stream.
      var: the variance, likewise.
    """

    count: chex.Array
    mean: Any
    var: Any


def of_space(space: Space) -> Statistics | tuple[()]:
    """Statistics of those observations of a space that may be normalised, or () if none may."""
    if isinstance(space, dict):
        names = [name for name, each in space.items() if each.normalize and name != ACTION_MASK]
        space = {name: space[name] for name in names}
        return init(space) if space else ()
    return init(space) if space.normalize else ()


def init(example: Any) -> Statistics:
    """Statistics before any data: mean 0 and variance 1, so that `apply` only clips.

    Args:
      example: a pytree with the shapes of one element: anything that has a shape.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), example)
    ones = jax.tree.map(lambda x: jnp.ones(x.shape, jnp.float32), example)
    return Statistics(count=jnp.float32(0.0), mean=zeros, var=ones)


def update(statistics: Statistics, batch: Any) -> Statistics:
    """Takes a batch into account.

    Args:
      statistics: the running moments.
      batch: a pytree of elements with any number of leading axes, `[..., *shape]`; entries of a
        dict that the moments do not have are left out.

    Returns:
      The new moments. Source: Chan et al. 1983, the pairwise update of mean and variance.
    """
    batch = _known(statistics, batch)
    leaf, mean_leaf = jax.tree.leaves(batch)[0], jax.tree.leaves(statistics.mean)[0]
    num_axes = leaf.ndim - mean_leaf.ndim
    n = parallel.size()
    for size in leaf.shape[:num_axes]:
        n *= size
    axes = tuple(range(num_axes))
    weight = jnp.maximum(n / (statistics.count + n), _MIN_WEIGHT)

    def merge(mean, var, x):
        x = x.astype(jnp.float32)
        batch_mean, batch_var = parallel.moments(x, axes)
        delta = batch_mean - mean
        new_var = var + weight * (batch_var - var) + weight * (1.0 - weight) * jnp.square(delta)
        return mean + weight * delta, new_var

    merged = jax.tree.map(merge, statistics.mean, statistics.var, batch)
    mean, var = jax.tree.transpose(jax.tree.structure(batch), jax.tree.structure((0, 0)), merged)
    return Statistics(count=statistics.count + n, mean=mean, var=var)


def apply(statistics: Statistics, x: Any, *, clip: float = 10.0) -> Any:
    """(x − mean)/max(std, 0.001), clipped to ±clip; `[..., *shape]`.

    Entries of a dict that the moments do not have stay as they are.
    """
    known = _known(statistics, x)
    normalized = jax.tree.map(
        lambda leaf, mean, var: jnp.clip(
            (leaf - mean) * jax.lax.rsqrt(jnp.maximum(var, _MIN_STD**2)), -clip, clip
        ),
        known,
        _like(statistics.mean, known),
        _like(statistics.var, known),
    )
    return x | normalized if isinstance(x, dict) else normalized


def obs(learner: Any, x: Any) -> Any:
    """Observations as the networks see them: by `learner.obs_statistics`, if it has any."""
    return apply(learner.obs_statistics, x) if learner.obs_statistics else x


def obs_statistics(learner: Any, x: Any) -> Any:
    """The statistics of a learner with a batch of observations taken into account, or ()."""
    return update(learner.obs_statistics, x) if learner.obs_statistics else ()


def scale(statistics: Statistics, x: chex.Array, *, clip: float = 10.0) -> chex.Array:
    """x/std, clipped to ±clip: the mean is left in, for rewards."""
    return jnp.clip(x * jax.lax.rsqrt(statistics.var + _EPSILON), -clip, clip)


def _known(statistics, x):
    return {name: x[name] for name in statistics.mean} if isinstance(x, dict) else x


def _like(moments: Any, x: Any) -> Any:
    """Gives the moments the leading axes of x, as axes of size 1."""
    return jax.tree.map(
        lambda m, leaf: m.reshape((1,) * (leaf.ndim - m.ndim) + m.shape), moments, x
    )
