"""What the arithmetic of all losses has in common: half precision is widened, a softmax keeps to
its limits, an exponential does not overflow, what is masked or divided by 0 is 0, what is compared
with its own kind and equal to it is 0, and a share that is a whole number is one.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import chex
import jax
import jax.numpy as jnp

Function = TypeVar("Function", bound=Callable[..., Any])


def at_least_float32(function: Function) -> Function:
    """Widens half-precision arguments to float32 before the function sees them; leaves all others
    as they are.
    """

    @functools.wraps(function)
    def widened(*args, **kwargs):
        args, kwargs = jax.tree.map(_widen, (args, kwargs))
        return function(*args, **kwargs)

    return cast(Function, widened)


def _widen(x):
    dtype = getattr(x, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits >= 32:
        return x
    return jnp.asarray(x, jnp.float32)


def log_softmax(logits: jax.Array) -> jax.Array:
    """log_softmax over the last axis that stays finite when two logits are further apart than their
    dtype reaches.
    """
    limit = 0.25 * float(jnp.finfo(logits.dtype).max)
    return jax.nn.log_softmax(jnp.clip(logits, -limit, limit), axis=-1)


def exp_then_tangent(x: jax.Array, limit: float) -> jax.Array:
    """exp(x) up to the limit, and from there on its tangent, which still has a gradient."""
    below = jnp.minimum(x, limit)
    return jnp.exp(below) * (1.0 + (x - below))


def select(x: jax.Array, mask: jax.Array) -> jax.Array:
    """x where the mask is not 0, and 0 where it is, whatever x is there."""
    return jnp.where(jnp.asarray(mask, bool), x, 0)


def safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient, 0 where the denominator is; so is the gradient there, never NaN."""
    zero = denominator == 0
    return jnp.where(zero, 0, numerator) / jnp.where(zero, 1, denominator)


def assert_fits(x: jax.Array, *data: jax.Array, bounds: tuple = ()) -> None:
    """Refuses data that is not of the shape of x, or of length one in its last axis, as
    `advantage[..., None]` is, one a sequence; and bounds that are neither that nor scalars.
    """
    arrays = [*data, *(bound for bound in bounds if jnp.ndim(bound) > 0)]
    chex.assert_shape(arrays, (*x.shape[:-1], *({1, length} for length in x.shape[-1:])))


def clamped_exp(log_ratio: jax.Array) -> jax.Array:
    """exp of a log-ratio that is clamped to ±20, beyond which it has no gradient."""
    return jnp.exp(jnp.clip(log_ratio, -20.0, 20.0))


def as_float(x: jax.Array) -> jax.Array:
    """Numbers or flags as floats, of 32 bits at least."""
    return jnp.asarray(x, jnp.result_type(x, jnp.float32))


def centred(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """x minus its mean over the last axis; what is masked does not count, and is 0.

    The differences from one entry come first, so that all is exactly 0 where all are equal.
    """
    valid = jnp.ones_like(x, bool) if mask is None else jnp.asarray(mask, bool)
    entry = jnp.max(x, axis=-1, keepdims=True, where=valid, initial=-jnp.inf)
    differences = jnp.where(valid, x - jax.lax.stop_gradient(entry), 0)
    count = jnp.sum(valid, axis=-1, keepdims=True, dtype=x.dtype)
    mean = safe_divide(jnp.sum(differences, axis=-1, keepdims=True), count)
    return jnp.where(valid, differences - mean, 0)


def standardised(x: jax.Array, mask: jax.Array | None = None, *, eps: jax.Array) -> jax.Array:
    """`centred`, over the standard deviation of n − 1 plus eps: 0 for a single entry."""
    centre = centred(x, mask)
    valid = jnp.ones_like(x, bool) if mask is None else jnp.asarray(mask, bool)
    count = jnp.sum(valid, axis=-1, keepdims=True, dtype=x.dtype)
    variance = jnp.sum(jnp.square(centre), axis=-1, keepdims=True) / jnp.maximum(count - 1.0, 1.0)
    return centre / (jnp.sqrt(variance) + eps)


def group_var(x: jax.Array) -> jax.Array:
    """Variance (n − 1) over the last axis: exactly 0 of equal ones, and of one alone."""
    return jnp.sum(jnp.square(centred(x)), axis=-1) / max(x.shape[-1] - 1, 1)


def group_std(x: jax.Array) -> jax.Array:
    """The root of `group_var`."""
    return jnp.sqrt(group_var(x))


def less_the_others(x: jax.Array, member: jax.Array | None = None) -> jax.Array:
    """x minus the mean of the others of the last axis, n/(n − 1)·(x − mean), 0 for one alone; what
    is no member does not count, and is 0.
    """
    valid = jnp.ones_like(x, bool) if member is None else member
    count = jnp.sum(valid, axis=-1, keepdims=True, dtype=x.dtype)
    return safe_divide(count * centred(x, member), count - 1.0)


def descending_rank(x: jax.Array) -> jax.Array:
    """The place of each entry of the last axis from the largest, 0, down; of equal ones the first
    comes first.
    """
    return jnp.argsort(jnp.argsort(-x, axis=-1), axis=-1)


def share(fraction: jax.Array | float, count: jax.Array) -> jax.Array:
    """fraction·count, the integer itself where the product misses it by rounding: 0.3·50 is 15."""
    product = fraction * (1.0 * count)
    integer = jnp.round(product)
    rounding = 4.0 * jnp.finfo(jnp.result_type(product)).eps * integer
    return jnp.where(jnp.abs(product - integer) <= rounding, integer, product)
