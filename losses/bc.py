"""Behavioural cloning: regression to the actions of the data, and averages of its weights (Block et
al., 2023, arXiv 2310.11428).
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import as_float, at_least_float32

Array = chex.Array
Scalar = float | Array


@at_least_float32
def bc_loss(action: Array, goal: Array) -> Array:
    """Squared distance per entry of the action: mean_d (π(s) − a)².

    Args:
      action: the policy's, `[..., d]`, in [−1, 1].
      goal: what it is to be, `[..., d]`; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Fujimoto and Gu 2021 (arXiv 2106.06860), section 5; the mean and not the sum over
      entries is that of the code released with it.
    """
    chex.assert_equal_shape([action, goal])
    return jnp.mean(jnp.square(action - jax.lax.stop_gradient(goal)), axis=-1)


@at_least_float32
def ema_rate(count: Array, *, power: Scalar, floor: Scalar) -> Array:
    """The weight of the newest parameters in their average: max(count^(−power), floor).

    With a power of 1 and no floor the average is the mean of all that were counted; with a floor of
    1 it is the last.

    Args:
      count: how many steps are in the average, this one included, `[...]`; below 1 counts as 1,
        so that the average begins with the parameters themselves.
      power: of the decay.
      floor: the smallest weight.

    Returns:
      The weight, `[...]`, in [floor, 1].

    Source: Block et al. 2023 (arXiv 2310.11428), read in its poster and reviews alone: the form is
      theirs, and the defaults of `algos.bc` ours.
    """
    return jnp.maximum(jnp.maximum(as_float(count), 1.0) ** -power, floor)
