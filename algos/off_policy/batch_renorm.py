"""Layers that are normalised over a minibatch, by batch renormalisation (Ioffe, 2017, arXiv
1702.03275).
"""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ..core.networks import MLP


class BatchRenorm(nn.Module):
    """Normalises each of d features over all other axes, then scales and shifts it: `[..., d]`.

    With mean μ and variance σ² of the batch, and their running averages m and s²:
      in training   x̂ = (x − μ)/σ·r + b, r = σ/s within [1/r_max, r_max], b = (μ − m)/s within
                    ±b_max, neither with a gradient; r = 1 and b = 0 for the first `warmup` batches
      otherwise     x̂ = (x − m)/s
    where σ and s have ε under their roots. Within the bounds both are the same number: a batch is
    normalised as it will be when the network acts. In training means that the collection
    "batch_stats" is mutable, as it is where an update applies a network; each such call moves the
    averages.

    Differs from the code released with CrossQ (`BatchRenorm` in its `sbx/sac/policies.py`) in that
    this has ε in all roots, as the paper does.

    Attributes:
      warmup: batches of batch normalisation alone.
      momentum: weight of the old averages.
      r_max: bound of the scale.
      b_max: bound of the shift, the paper's d_max.
      epsilon: what is added to a variance.
    """

    warmup: int = 100_000
    momentum: float = 0.99
    r_max: float = 3.0
    b_max: float = 5.0
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        x = jnp.asarray(x, jnp.float32)
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        size = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, size, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, size, jnp.float32)
        count = self.variable("batch_stats", "count", jnp.zeros, (), jnp.int32)
        scale = self.param("scale", nn.initializers.ones_init(), size)
        bias = self.param("bias", nn.initializers.zeros_init(), size)
        running_mean = mean.value.reshape(shape)
        running_std = jnp.sqrt(var.value.reshape(shape) + self.epsilon)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            axes = tuple(range(x.ndim - 1))
            batch_mean = jnp.mean(x, axes, keepdims=True)
            batch_var = jnp.var(x, axes, keepdims=True)
            batch_std = jnp.sqrt(batch_var + self.epsilon)
            warm = count.value >= self.warmup
            r = jnp.clip(batch_std / running_std, 1.0 / self.r_max, self.r_max)
            b = jnp.clip((batch_mean - running_mean) / running_std, -self.b_max, self.b_max)
            r, b = jax.lax.stop_gradient((jnp.where(warm, r, 1.0), jnp.where(warm, b, 0.0)))
            x = (x - batch_mean) / batch_std * r + b
            for average, new in ((mean, batch_mean), (var, batch_var)):
                average.value = self.momentum * average.value + (1.0 - self.momentum) * new.reshape(
                    size
                )
            count.value += 1
        else:
            x = (x - running_mean) / running_std
        return scale.reshape(shape) * x + bias.reshape(shape)


class RenormMLP(nn.Module):
    """An `MLP` whose inputs, and what comes out of each activation, are normalised by `BatchRenorm`
    over the minibatch; flattens what it is given.

    Attributes:
      hidden_sizes: width of each layer.
      activation, initialiser, event_ndim, layer_norm, dtype: as those of `MLP`.
      warmup: see `BatchRenorm`.
    """

    hidden_sizes: Sequence[int]
    activation: str = "relu"
    initialiser: str = "lecun"
    event_ndim: int = 1
    layer_norm: bool = False
    dtype: Any = jnp.float32
    warmup: int = 100_000

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        options = {"layer_norm": self.layer_norm, "dtype": self.dtype}
        x = BatchRenorm(self.warmup)(x.reshape(x.shape[: x.ndim - self.event_ndim] + (-1,)))
        for size in self.hidden_sizes:
            x = MLP((size,), self.activation, self.initialiser, **options)(x)
            x = BatchRenorm(self.warmup)(x)
        return x
