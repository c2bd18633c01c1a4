"""What FamO2O (Wang et al., 2023, arXiv 2310.17966) adds to IQL: a policy for each inverse
temperature, and how a state chooses among them.

The choice is learned by `sac_actor_loss` and `sac_temperature_loss`.
"""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


@at_least_float32
def famo2o_coefficient(raw: Array, *, low: Scalar, high: Scalar) -> Array:
    """An inverse temperature: low + ½·(raw + 1)·(high − low).

    Args:
      raw: what is chosen, `[...]`, in [−1, 1].
      low: the smallest coefficient.
      high: the largest.

    Returns:
      The coefficient, `[...]`.

    Source: Wang et al. 2023, section 4; the code released with it.
    """
    return low + 0.5 * (raw + 1.0) * (high - low)


@at_least_float32
def famo2o_code(coefficient: Array, *, base: Scalar, size: int) -> Array:
    """A coefficient as a network sees it: sin and cos of c/base^(2i/size), in turns.

    Args:
      coefficient: c, `[...]`.
      base: of the frequencies.
      size: of the code, even.

    Returns:
      The code, `[..., size]`.

    Source: the code released with Wang et al. 2023, after Vaswani et al. 2017.
    """
    powers = base ** (jnp.arange(0, size, 2) / size)
    angle = jnp.stack([coefficient / power for power in powers], axis=-1)
    code = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return code.reshape(*coefficient.shape, size)
