"""Fully connected layers, and how their kernels begin."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

# Names of the initialisers, with the scale of hidden layers.
INITIALISERS = {"orthogonal": 2**0.5, "lecun": 1.0, "uniform": 1.0}


def dense(
    size: int, initialiser: str, scale: float | None = None, dtype: Any = jnp.float32
) -> nn.Dense:
    """A fully connected layer with zero bias; scale multiplies the kernel, by default as
    `INITIALISERS` says.
    """
    scale = INITIALISERS[initialiser] if scale is None else scale
    kernel_init = KERNELS[initialiser]
    return nn.Dense(size, kernel_init=partial(kernel_init, scale=scale), dtype=dtype)


def uniform(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """Uniform in ±scale/√(inputs), as PyTorch's linear layers are by default."""
    bound = scale / math.sqrt(max(1, math.prod(shape[:-1])))
    return _draw(partial(jax.random.uniform, minval=-bound, maxval=bound), key, shape).astype(dtype)


def lecun(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """Normal, truncated at two standard deviations, with variance scale²/(inputs); the last axis is
    the output.
    """
    # The standard deviation of a standard normal that is truncated at ±2.
    std = scale / math.sqrt(max(1, math.prod(shape[:-1]))) / 0.87962566103423978
    return (
        std * _draw(partial(jax.random.truncated_normal, lower=-2.0, upper=2.0), key, shape)
    ).astype(dtype)


def _draw(sampler, key, shape):
    """Random numbers of a shape, of which more are drawn: layers of about the same size then share
    compiled kernels.
    """
    size = math.prod(shape)
    return sampler(key, shape=(max(4096, 1 << (size - 1).bit_length()),))[:size].reshape(shape)


def orthogonal(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """A random orthogonal kernel times scale: rows or columns, whichever are fewer, are
    orthonormal.

    Uniformly distributed (Saxe et al. 2014, arXiv 1312.6120): the orthogonal factor of a Gaussian
    matrix, by the Newton–Schulz iteration for the polar decomposition (Higham 2008, section 8.3),
    in matrix products alone. `flax.linen.initializers.orthogonal` calls LAPACK's QR, of which XLA's
    CPU runtime deadlocks when two batched calls meet: vmapped seeds then hang, for ever, now and
    then (BUILD_NOTES.md has the evidence).

    Args:
      key: a typed key.
      shape: of the kernel; the last axis is the output, the others together the input.
      dtype: of the kernel.
      scale: factor.
    """
    matrix = _draw(jax.random.normal, key, (math.prod(shape[:-1]), shape[-1]))
    wide = matrix.shape[0] < matrix.shape[1]
    matrix = matrix.T if wide else matrix

    def newton_schulz(_, x):
        gram = jnp.matmul(x.T, x, precision="highest")
        return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

    # Each iteration multiplies a small singular value by 1.5: 40 of them reach 1 from 1e-6 of the
    # norm.
    matrix = jax.lax.fori_loop(0, 40, newton_schulz, matrix / jnp.linalg.norm(matrix))
    matrix = matrix.T if wide else matrix
    return (scale * matrix.reshape(shape)).astype(dtype)


KERNELS = {"orthogonal": orthogonal, "lecun": lecun, "uniform": uniform}
