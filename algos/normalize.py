"""Running mean and variance of a stream of arrays, for observations and for returns.

Works on any pytree. The weight of a new batch in the mean is n/(all so far), but never below 1e-5: beyond a hundred
thousand batches old data is forgotten exponentially. So the statistics go on adapting however long the run, in float32,
and the count, float32 too, may stop growing without consequence.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

_MIN_WEIGHT = 1e-5
_EPSILON = 1e-8


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


def init(example: Any) -> Statistics:
    """Statistics before any data: mean 0 and variance 1, so that `apply` only clips.

    Args:
      example: a pytree with the shapes of one element; arrays or `jax.ShapeDtypeStruct`s.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), example)
    ones = jax.tree.map(lambda x: jnp.ones(x.shape, jnp.float32), example)
    return Statistics(count=jnp.float32(0.0), mean=zeros, var=ones)


def update(statistics: Statistics, batch: Any) -> Statistics:
    """Takes a batch into account.

    Args:
      statistics: the running moments.
      batch: a pytree of elements with any number of leading axes, `[..., *shape]`.

    Returns:
      The new moments. Source: Chan et al. 1983, the pairwise update of mean and variance.
    """
    leaf, mean_leaf = jax.tree.leaves(batch)[0], jax.tree.leaves(statistics.mean)[0]
    num_axes = leaf.ndim - mean_leaf.ndim
    n = 1
    for size in leaf.shape[:num_axes]:
        n *= size
    axes = tuple(range(num_axes))
    weight = jnp.maximum(n / (statistics.count + n), _MIN_WEIGHT)

    def merge(mean, var, x):
        x = x.astype(jnp.float32)
        batch_mean, batch_var = jnp.mean(x, axes), jnp.var(x, axes)
        delta = batch_mean - mean
        new_var = var + weight * (batch_var - var) + weight * (1.0 - weight) * jnp.square(delta)
        return mean + weight * delta, new_var

    merged = jax.tree.map(merge, statistics.mean, statistics.var, batch)
    mean, var = jax.tree.transpose(jax.tree.structure(batch), jax.tree.structure((0, 0)), merged)
    return Statistics(count=statistics.count + n, mean=mean, var=var)


def apply(statistics: Statistics, x: Any, *, clip: float = 10.0) -> Any:
    """(x − mean)/std, clipped to ±clip; `[..., *shape]`."""
    return jax.tree.map(
        lambda leaf, mean, var: jnp.clip((leaf - mean) * jax.lax.rsqrt(var + _EPSILON), -clip, clip),
        x,
        _like(statistics.mean, x),
        _like(statistics.var, x),
    )


def scale(statistics: Statistics, x: chex.Array, *, clip: float = 10.0) -> chex.Array:
    """x/std, clipped to ±clip: the mean is left in, for rewards."""
    return jnp.clip(x * jax.lax.rsqrt(statistics.var + _EPSILON), -clip, clip)


def _like(moments: Any, x: Any) -> Any:
    """Gives the moments the leading axes of x, as axes of size 1."""
    return jax.tree.map(lambda m, leaf: m.reshape((1,) * (leaf.ndim - m.ndim) + m.shape), moments, x)
