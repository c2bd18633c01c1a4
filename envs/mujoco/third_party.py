"""How other libraries' physics is traced: ranks, precision, and linear systems that do not hang on
a CPU.

On CPUs jax hands Cholesky factorisations to LAPACK, a batch at a time, and a batch waits for
threads of the pool that it runs on. Two of them side by side, such as of a step and of a reset,
take all threads of a small pool and wait for ever. Here they are loops of array operations on CPUs,
and what they were elsewhere.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import jax.scipy.linalg


@contextlib.contextmanager
def third_party() -> Iterator[None]:
    """What is traced inside may broadcast ranks, multiplies matrices exactly, and solves without
    LAPACK on a CPU.
    """
    solvers = {"cho_factor": _cho_factor, "cho_solve": _cho_solve, "solve": _solve}
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.default_matmul_precision("highest"))
        stack.enter_context(own_devices())
        for name, function in solvers.items():
            stack.enter_context(replaced(vars(jax.scipy.linalg), name, function))
        yield


@contextlib.contextmanager
def own_devices() -> Iterator[None]:
    """Inside, `jax.devices` has those of this process alone. MJX puts a model onto the first there
    is, which is another process's where several train one model.
    """
    with replaced(vars(jax), "devices", lambda backend=None: jax.local_devices(backend=backend)):
        yield


@contextlib.contextmanager
def replaced(table: dict, key: Any, value: Any) -> Iterator[None]:
    """Inside, an entry of a table is another."""
    original = table[key]
    table[key] = value
    try:
        yield
    finally:
        table[key] = original


def cholesky(matrix: chex.Array) -> chex.Array:
    """The upper triangular `[n, n]` U of a symmetric positive definite matrix `[n, n]`, which is
    UᵀU.
    """
    n = len(matrix)
    rows = jnp.arange(n)

    def eliminate(j, matrix):
        pivot = matrix[j]
        return matrix - jnp.outer(jnp.where(rows > j, pivot, 0.0) / pivot[j], pivot)

    matrix = jax.lax.fori_loop(0, n, eliminate, matrix)
    return jnp.triu(matrix) / jnp.sqrt(jnp.diagonal(matrix))[:, None]


def cholesky_solve(factor: chex.Array, vector: chex.Array) -> chex.Array:
    """The x `[n]` with UᵀU x = vector `[n]`, for a factor U `[n, n]` from `cholesky`."""
    n = len(factor)
    rows = jnp.arange(n)
    diagonal = jnp.diagonal(factor)

    def forward(j, y):
        return y - jnp.where(rows > j, factor[j], 0.0) * (y[j] / diagonal[j])

    def backward(i, x):
        j = n - 1 - i
        return x - jnp.where(rows < j, factor[:, j], 0.0) * (x[j] / diagonal[j])

    y = jax.lax.fori_loop(0, n, forward, vector) / diagonal
    return jax.lax.fori_loop(0, n, backward, y) / diagonal


# jax's own, for other platforms, and for what physics does not ask for: batches, lower factors,
# general matrices.
_JAX = {name: getattr(jax.scipy.linalg, name) for name in ("cho_factor", "cho_solve", "solve")}


def _cho_factor(a, lower=False, **options):
    if lower or options or a.ndim != 2:
        return _JAX["cho_factor"](a, lower, **options)
    return jax.lax.platform_dependent(
        a, cpu=cholesky, default=lambda a: _JAX["cho_factor"](a)[0]
    ), False


def _cho_solve(c_and_lower, b, **options):
    factor, lower = c_and_lower
    if lower or options or factor.ndim != 2:
        return _JAX["cho_solve"](c_and_lower, b, **options)
    solve = cholesky_solve if b.ndim == 1 else jax.vmap(cholesky_solve, (None, 1), 1)
    return jax.lax.platform_dependent(
        factor, b, cpu=solve, default=lambda u, b: _JAX["cho_solve"]((u, False), b)
    )


def _solve(a, b, *args, **options):
    if args or options != {"assume_a": "pos"}:
        return _JAX["solve"](a, b, *args, **options)
    return _cho_solve(_cho_factor(a), b)
