"""What the arithmetic of all losses has in common: half precision is widened, a softmax keeps to
its limits, an exponential does not overflow.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def at_least_float32(function: Callable) -> Callable:
    """Widens half-precision arguments to float32 before the function sees them; leaves all others
    as they are.
    """

    @functools.wraps(function)
    def widened(*args, **kwargs):
        args, kwargs = jax.tree.map(_widen, (args, kwargs))
        return function(*args, **kwargs)

    return widened


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
