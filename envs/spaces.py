"""What an observation or an action may be: a Box of numbers, one of n choices, or several
choices.
"""

import dataclasses
import numbers
from typing import TYPE_CHECKING, Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# Bounds at least this large stand for "unbounded": several suites write the largest float32 instead
# of infinity.
_UNBOUNDED = 1e30
_SINGLE = {np.dtype(f"{kind}64"): np.dtype(f"{kind}32") for kind in ("float", "int", "uint")}


def single(dtype: Any) -> Any:
    """What a dtype is without JAX_ENABLE_X64: 32 bits instead of 64."""
    return _SINGLE.get(dtype, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """Arrays of one shape and dtype between two bounds.

    Attributes:
      low: lower bounds; a scalar or anything that broadcasts to shape. −inf where there is none.
      high: upper bounds, likewise. inf where there is none.
      shape: the shape; by default that of the bounds.
      dtype: the dtype of the elements; of 64 bits, the same with 32.
      normalize: whether running statistics may normalise observations, where they are asked for; by
        default unless they are bool. Say False of what is no physical quantity, such as a mask.

    Raises:
      ValueError: the bounds do not broadcast to shape, a lower bound is above its upper bound, or
        normalize is none of True, False and None.
    """

    low: np.ndarray
    high: np.ndarray
    shape: tuple[int, ...] = cast(Any, None)
    dtype: np.dtype = np.dtype("float32")
    normalize: bool = cast(Any, None)

    if TYPE_CHECKING:  # more may be given than what is there afterwards

        def __init__(
            self,
            low: ArrayLike,
            high: ArrayLike,
            shape: tuple[int, ...] | None = None,
            dtype: DTypeLike = "float32",
            normalize: bool | None = None,
        ): ...

    def __post_init__(self):
        shape = (
            np.broadcast_shapes(np.shape(self.low), np.shape(self.high))
            if self.shape is None
            else self.shape
        )
        for name in ("low", "high"):
            bound = np.asarray(getattr(self, name), np.float32)
            bound = np.where(np.abs(bound) >= _UNBOUNDED, np.copysign(np.inf, bound), bound)
            try:
                object.__setattr__(self, name, np.broadcast_to(bound, shape))
            except ValueError as error:
                raise ValueError(
                    f"Box: {name} of the shape {bound.shape} does not fit the shape {shape}"
                ) from error
        object.__setattr__(self, "shape", tuple(shape))
        object.__setattr__(self, "dtype", single(np.dtype(self.dtype)))
        if self.normalize not in (True, False, None):
            raise ValueError(f"Box: normalize={self.normalize!r}: must be True, False or None")
        object.__setattr__(
            self,
            "normalize",
            self.dtype != bool if self.normalize is None else bool(self.normalize),
        )
        if not np.all(self.low <= self.high):
            raise ValueError(
                f"Box: low must not be above high, got low={self.low}, high={self.high}"
            )

    @property
    def bounded(self) -> bool:
        """Whether every element has two finite bounds."""
        return bool(np.all(np.isfinite(self.low)) and np.all(np.isfinite(self.high)))

    def contains(self, x: chex.Array) -> bool:
        """Whether a concrete array has this shape and lies within the bounds (float32 rounding
        allowed).
        """
        x = np.asarray(x)
        slack = 1e-5 * (1.0 + np.abs(np.where(np.isfinite(x), x, 0.0)))
        return x.shape == self.shape and bool(
            np.all((x >= self.low - slack) & (x <= self.high + slack))
        )

    def from_unit(self, x: chex.Array) -> jax.Array:
        """Maps [−1, 1] affinely to the bounds, which must be finite: −1 to low, 1 to high; `[...,
        *shape]`.
        """
        low, high = (jnp.broadcast_to(bound, jnp.shape(x)) for bound in (self.low, self.high))
        return (low + 0.5 * (x + 1.0) * (high - low)).astype(self.dtype)

    def to_unit(self, x: chex.Array) -> jax.Array:
        """The inverse of `from_unit`: low to −1, high to 1; `[..., *shape]`, float32. Where the two
        bounds are the same, 0.
        """
        low, high = (jnp.broadcast_to(bound, jnp.shape(x)) for bound in (self.low, self.high))
        width = high - low
        unit = 2.0 * (jnp.asarray(x, jnp.float32) - low) / jnp.where(width > 0.0, width, 1.0) - 1.0
        return jnp.where(width > 0.0, unit, 0.0)

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """A uniform element; standard normal, moved inside the bounds, where a bound is missing."""
        uniform_key, normal_key = jax.random.split(key)
        finite = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(finite, self.low, 0.0), np.where(finite, self.high, 1.0)
        uniform = jax.random.uniform(uniform_key, self.shape, minval=low, maxval=high)
        normal = jnp.clip(jax.random.normal(normal_key, self.shape), self.low, self.high)
        return jnp.where(finite, uniform, normal).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of n choices, an int32 scalar in [0, n).

    Attributes:
      n: how many choices.

    Raises:
      ValueError: n is no integer, or below 1.
    """

    n: int

    def __post_init__(self):
        if isinstance(self.n, bool) or not isinstance(self.n, numbers.Integral):
            raise ValueError(f"Discrete: n must be an integer, got {self.n!r}")
        if self.n < 1:
            raise ValueError(f"Discrete: n must be at least 1, got {self.n}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Always (): a scalar."""
        return ()

    @property
    def dtype(self) -> np.dtype:
        """Always int32."""
        return np.dtype("int32")

    def contains(self, x: chex.Array) -> bool:
        """Whether a concrete value is an integer scalar in [0, n)."""
        x = np.asarray(x)
        return x.shape == () and np.issubdtype(x.dtype, np.integer) and bool(0 <= x < self.n)

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """A uniform choice."""
        return jax.random.randint(key, (), 0, self.n, jnp.int32)


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once, int32 `[k]`: entry i in [0, nvec[i]).

    Attributes:
      nvec: how many choices there are for each entry.

    Raises:
      ValueError: nvec is empty, or has what is no integer of at least 1.
    """

    nvec: tuple[int, ...]

    def __post_init__(self):
        try:
            nvec = tuple(Discrete(each).n for each in self.nvec)
        except (TypeError, ValueError):
            nvec = ()
        if not nvec:
            raise ValueError(
                f"MultiDiscrete: nvec must be integers of at least 1, got {self.nvec!r}"
            )
        object.__setattr__(self, "nvec", tuple(int(n) for n in nvec))

    @property
    def shape(self) -> tuple[int, ...]:
        """(k,), how many choices are made at once."""
        return (len(self.nvec),)

    @property
    def dtype(self) -> np.dtype:
        """Always int32."""
        return np.dtype("int32")

    def contains(self, x: chex.Array) -> bool:
        """Whether a concrete value has k integers, each in [0, nvec[i])."""
        x = np.asarray(x)
        fits = x.shape == self.shape and np.issubdtype(x.dtype, np.integer)
        return fits and bool(np.all((x >= 0) & (x < np.array(self.nvec))))

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """Uniform choices."""
        return jax.random.randint(key, self.shape, 0, np.array(self.nvec, np.int32), jnp.int32)


Space = Box | Discrete | MultiDiscrete | dict[str, Box]


def same_space(a: Space, b: Space) -> bool:
    """Whether two spaces have the same elements; of dicts each entry. The type of numbers does not
    count.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_space(a[name], b[name]) for name in a)
    if isinstance(a, Box) and isinstance(b, Box):
        bounds = ((a.low, b.low), (a.high, b.high))
        return a.shape == b.shape and all(np.array_equal(x, y) for x, y in bounds)
    return a == b
