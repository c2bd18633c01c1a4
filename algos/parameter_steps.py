"""Steps of whole parameters, beside those of an optimiser: pytrees in, pytrees out."""

import chex
import jax
import jax.numpy as jnp
import optax

Scalar = float | chex.Array


def reposition(
    slow: chex.ArrayTree, fast: chex.ArrayTree, *, alpha: Scalar = 0.8
) -> chex.ArrayTree:
    """Back from fast parameters towards slow ones: slow + α·(fast − slow).

    Take a few steps (3 in the paper) from slow to fast, reposition, and take one more from there.
    There α goes to 0 once the entropy of the policy is too many deviations from its recent mean.

    Args:
      slow: parameters before the fast steps, arrays of floats.
      fast: parameters after them, of the same structure.
      alpha: α in [0, 1]; with 1 nothing is taken back, with 0 all is.

    Returns:
      The parameters to take the next step from.

    Source: SFPO (arXiv 2510.04072) and its released code.
    """
    return optax.incremental_update(fast, slow, alpha)


def moving_reference(
    params: chex.ArrayTree,
    ref: chex.ArrayTree,
    step: chex.Array,
    *,
    alpha: Scalar = 0.6,
    every: Scalar = 512,
) -> chex.ArrayTree:
    """The reference of a preference loss, moved now and then: α·params + (1 − α)·ref.

    Args:
      params: the trained parameters, arrays of floats.
      ref: the reference, of the same structure.
      step: how many updates there were, an integer; the reference moves where it is a multiple of
        every, above 0.
      alpha: α in [0, 1]; with 1 the reference becomes params.
      every: updates between two moves, an integer.

    Returns:
      The reference; bit for bit the old one between moves.

    Source: TR-DPO (arXiv 2404.09656); the defaults are those of TRL, not the paper's.
    """
    is_due = (step > 0) & (step % every == 0)
    moved = optax.incremental_update(params, ref, alpha)
    return jax.tree.map(lambda new, old: jnp.where(is_due, new, old), moved, ref)


def snr_step_size(
    mean_grad_sq: chex.Array, variance_trace: chex.Array, *, batch: Scalar, scale: Scalar
) -> chex.Array:
    """A learning rate that falls with the noise of the gradient: scale·‖ḡ‖²/(‖ḡ‖² + tr Var/B).

    Args:
      mean_grad_sq: ‖ḡ‖², the squared norm of the mean gradient, `[...]`.
      variance_trace: tr Var, the sum over parameters of the variance of one sample's gradient,
        `[...]`.
      batch: B, over how many samples the mean is.
      scale: the learning rate without noise.

    Returns:
      The learning rate, `[...]`; 0 where both are 0.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after OBLR-PO (arXiv 2511.23310); the paper's exact form was not available.
    """
    mean_grad_sq, variance_trace = jnp.asarray(mean_grad_sq), jnp.asarray(variance_trace)
    chex.assert_equal_shape([mean_grad_sq, variance_trace])
    total = mean_grad_sq + variance_trace / batch
    return scale * jnp.where(total > 0, mean_grad_sq / jnp.where(total > 0, total, 1.0), 0.0)


def power_decay(initial: Scalar, step: chex.Array, *, power: Scalar) -> chex.Array:
    """A step size that falls as a power of the number of steps: initial·(2/(t + 2))^power.

    Args:
      initial: the first one.
      step: t, how many steps there were, an integer.
      power: at least 0; with 0 it stays.

    Returns:
      The step size, a scalar.

    Source: Fatkhullin et al. 2023 (arXiv 2302.01734), theorems 4.4 and 5.4.
    """
    return initial * (2.0 / (step + 2.0)) ** power


def look_ahead(
    params: chex.ArrayTree, previous: chex.ArrayTree, *, momentum: Scalar
) -> chex.ArrayTree:
    """Where implicit gradient transport takes its gradient: θ + ((1 − η)/η)·(θ − θ_previous).

    Averaged as (1 − η)·d + η·g, such gradients g of a quadratic are its gradient at θ, if d was
    that at θ_previous.

    Args:
      params: θ, arrays of floats.
      previous: θ of one step before, of the same structure.
      momentum: η in (0, 1], the weight of the new gradient; with 1 it is θ.

    Returns:
      The parameters to take a gradient at.

    Source: Arnold et al. 2019 (arXiv 1906.03532); Fatkhullin et al. 2023, algorithm 1.
    """
    ahead = (1.0 - momentum) / momentum
    return jax.tree.map(lambda new, old: new + ahead * (new - old), params, previous)


def recursive_gradient(
    direction: chex.ArrayTree,
    grads: chex.ArrayTree,
    product: chex.ArrayTree | None = None,
    *,
    momentum: Scalar,
) -> chex.ArrayTree:
    """An average of gradients that is carried along: (1 − η)·(d + product) + η·g.

    Args:
      direction: d of one step before, arrays of floats.
      grads: g, of the same structure.
      product: the Hessian's with how the parameters have moved, of the same structure; None where
        g is taken ahead of them, see `look_ahead`.
      momentum: η in (0, 1], the weight of the new gradient; with 1 it is g.

    Returns:
      d.

    Source: Fatkhullin et al. 2023, algorithms 1 and 2.
    """
    carried = direction if product is None else jax.tree.map(jnp.add, direction, product)
    return optax.incremental_update(grads, carried, momentum)


def normalized_step(
    params: chex.ArrayTree, direction: chex.ArrayTree, *, size: Scalar
) -> chex.ArrayTree:
    """A step of this length whatever the direction's is: θ + size·d/‖d‖; none where d is 0.

    Args:
      params: θ, arrays of floats.
      direction: d, uphill, of the same structure.
      size: the length.

    Returns:
      The parameters after the step.

    Source: Fatkhullin et al. 2023, algorithm 1.
    """
    norm = optax.tree.norm(direction)
    scale = jnp.where(norm > 0, size / jnp.where(norm > 0, norm, 1.0), 0.0)
    return jax.tree.map(lambda x, d: x + scale * d, params, direction)
