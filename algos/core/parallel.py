"""Several devices that train one model, as an axis that the code finds.

Where the mapped axis `AXIS` is bound, by `shard_map` over a mesh or by `vmap(axis_name=AXIS)`, each
device has its share of the environments, of the replay and of the minibatches, and all have the
same parameters. What allocates or draws takes its `share` of a number of the config; what counts
keeps the number; what all must agree on is reduced by a function of this module. Without the axis
each of them is the identity, and leaves nothing in the program.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from .fields import ConfigError

# No likely name of an axis over which somebody maps independent runs, which must not be averaged.
AXIS = "environments"


def size() -> int:
    """Devices that share the run, D; 1 without the axis."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:  # it is not bound
        return 1


def share(number: int) -> int:
    """What of a total number is this device's."""
    return number // size()


def require_multiple(field: str, value: int, num_devices: int, unit: int = 1) -> None:
    """Checks that a total can be shared out evenly.

    Args:
      field: its name.
      value: what it is.
      num_devices: devices that share it.
      unit: what cannot be cut any further.

    Raises:
      ConfigError: it cannot; with the numbers below and above that can.
    """
    step = num_devices * unit
    if value % step:
        below = value - value % step
        near = f"{below} or {below + step}" if below else f"{step}"
        what = f"{step}, for {num_devices} devices" if unit > 1 else f"the {num_devices} devices"
        raise ConfigError(field, value, f"must be a multiple of {what}, such as {near}")


def require_divisor(field: str, value: int, whole: int, what: str) -> None:
    """Checks that a number cuts what a device has into equal parts.

    Args:
      field: its name.
      value: what it is.
      whole: what is cut.
      what: it, in words.

    Raises:
      ConfigError: it does not; with the numbers below and above that do.
    """
    if whole % value:
        divisors = [number for number in range(1, whole + 1) if whole % number == 0]
        below = [number for number in divisors if number < value][-1:]
        near = " or ".join(map(str, below + [each for each in divisors if each > value][:1]))
        raise ConfigError(field, value, f"must divide the {what}, such as {near}")


def place(env: chex.Array, num_envs: int) -> chex.Array:
    """The number among all environments of one of this device's num_envs."""
    return env if size() == 1 else env + jax.lax.axis_index(AXIS) * num_envs


def own_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """A key that differs from device to device, of one that does not."""
    return key if size() == 1 else jax.random.fold_in(key, jax.lax.axis_index(AXIS))


def mean(tree: Any) -> Any:
    """The mean over devices of floats; others, which count, are the same everywhere and stay."""
    if size() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    floating = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]
    means = jax.lax.pmean([leaves[i] for i in floating], AXIS)
    for i, x in zip(floating, means, strict=True):
        leaves[i] = x
    return jax.tree.unflatten(structure, leaves)


def total(tree: Any) -> Any:
    """The sum over devices."""
    return tree if size() == 1 else jax.lax.psum(tree, AXIS)


def largest(x: chex.Array) -> chex.Array:
    """The largest of the devices' numbers, `[...]`."""
    return x if size() == 1 else jax.lax.pmax(x, AXIS)


def moments(x: chex.Array, axes: tuple[int, ...] | None = None) -> tuple[chex.Array, chex.Array]:
    """Mean and variance over these axes, by default all, and over the devices.

    Each device's own, of as many numbers, are gathered: Var = mean of (Var_d + (mean_d − mean)²).
    """
    own = jnp.mean(x, axes), jnp.var(x, axes)
    if size() == 1:
        return own
    means, variances = jnp.moveaxis(jax.lax.all_gather(jnp.stack(own), AXIS), 1, 0)
    overall = jnp.mean(means, axis=0)
    return overall, jnp.mean(variances + jnp.square(means - overall[None]), axis=0)


def gathered(tree: Any) -> Any:
    """All devices' arrays, one behind the other along their first axis: for what is small."""
    if size() == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree)


def own(tree: Any, axis: int = 0) -> Any:
    """This device's part of arrays that are the same on all, cut along an axis."""
    if size() == 1:
        return tree

    def cut(x):
        num = share(x.shape[axis])
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * num, num, axis)

    return jax.tree.map(cut, tree)


def same(tree: Any) -> Any:
    """The first device's arrays, keys too, on all."""
    if size() == 1:
        return tree

    def first(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = first(jax.random.key_data(x))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        number = x.astype(jnp.int32) if x.dtype == bool else x
        kept = jnp.where(jax.lax.axis_index(AXIS) == 0, number, jnp.zeros_like(number))
        return jax.lax.psum(kept, AXIS).astype(x.dtype)

    return jax.tree.map(first, tree)
