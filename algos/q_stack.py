"""A stack of Q-functions as a policy, and the cache of its logits: the pure parts of StaQ."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses
from .q_networks import apply_ensemble

_CHUNK = 32_768  # observations times networks that are evaluated at once: bounds the memory of the activations


class Stack(NamedTuple):
    """The last M Q-functions, each an ensemble of C networks.

    Attributes:
      params: as a ring, leaves `[M, C, ...]`.
      outgoing: what the last push has replaced, leaves `[C, ...]`.
      pushed: Q-functions that were ever pushed, int32; entry `pushed % M` is replaced next.
    """

    params: Any
    outgoing: Any
    pushed: chex.Array


class Weights(NamedTuple):
    """η and β of `losses.staq_coefficients`, scalars."""

    eta: chex.Array
    beta: chex.Array


def init(params: Any, memory: int) -> Stack:
    """An empty stack for an ensemble like `params`, leaves `[C, ...]`."""
    empty = jax.tree.map(lambda x: jnp.zeros((memory, *x.shape), x.dtype), params)
    return Stack(empty, jax.tree.map(jnp.zeros_like, params), jnp.int32(0))


def size(stack: Stack) -> int:
    """M."""
    return jax.tree.leaves(stack.params)[0].shape[0]


def push(stack: Stack, params: Any, ok: chex.Array | bool = True) -> Stack:
    """Puts an ensemble in the place of the oldest; where not `ok`, leaves the stack as it is, without copying it."""
    place = stack.pushed % size(stack)
    oldest = jax.tree.map(lambda pool: pool[place], stack.params)
    entry = jax.tree.map(lambda new, old: jnp.where(ok, new, old), params, oldest)
    params = jax.tree.map(lambda pool, x: pool.at[place].set(x), stack.params, entry)
    return Stack(params, oldest, stack.pushed + jnp.asarray(ok, jnp.int32))


def mean_q(networks: nn.Module, params: Any, obs: Any) -> chex.Array:
    """The mean over an ensemble: observations `[..., *shape]` to `[..., n]`."""
    return jnp.mean(apply_ensemble(networks, params, obs), axis=0)


def logits(stack: Stack, weights: Weights, obs: Any, networks: nn.Module) -> chex.Array:
    """The policy's logits by the whole stack: observations `[..., *shape]` to `[..., n]`."""
    memory = size(stack)
    stacked = jax.vmap(lambda params: mean_q(networks, params, obs))(stack.params)
    by_age = losses.staq_coefficients(stack.pushed, memory=memory, eta=weights.eta, beta=weights.beta)
    age = (stack.pushed - 1 - jnp.arange(memory)) % memory
    return losses.staq_logits(stacked, by_age[age])


def advanced(stack: Stack, weights: Weights, old_logits: chex.Array, obs: Any, networks: nn.Module) -> chex.Array:
    """The policy's logits from those before the last push, with the same weights: `[..., n]` to `[..., n]`.

    ξ' = β·ξ + η·Q_k + η·β^M/(1 − β^M)·(Q_k − Q_{k−M}), the last term being what has left the stack.
    """
    memory = size(stack)
    newest = jax.tree.map(lambda pool: pool[(stack.pushed - 1) % memory], stack.params)
    new_q, old_q = mean_q(networks, newest, obs), mean_q(networks, stack.outgoing, obs)
    old_q = jnp.where(stack.pushed > memory, old_q, 0.0)
    power = jnp.power(weights.beta, memory)
    return weights.beta * old_logits + weights.eta * (new_q + power / (1.0 - power) * (new_q - old_q))


class Cache(NamedTuple):
    """The logits at the successors in a replay, `[capacity, N, n]`, and the weights that they were made with."""

    logits: chex.Array
    weights: Weights


def empty_cache(capacity: int, num_envs: int, num_actions: int) -> Cache:
    """A cache that fits no weights, so that it is made anew when first needed."""
    never = jnp.float32(jnp.nan)
    return Cache(jnp.zeros((capacity, num_envs, num_actions), jnp.float32), Weights(never, never))


def refresh(cache: Cache, stack: Stack, weights: Weights, next_obs: Any, networks: nn.Module) -> Cache:
    """The cache after a push: by the recursion if the weights are still the same, else with the whole stack."""
    ensemble = jax.tree.leaves(stack.outgoing)[0].shape[0]

    def recursion():
        return over_rows(
            lambda old, obs: advanced(stack, weights, old, obs, networks), 2 * ensemble, cache.logits, next_obs
        )

    def anew():
        return over_rows(lambda obs: logits(stack, weights, obs, networks), size(stack) * ensemble, next_obs)

    same = (cache.weights.eta == weights.eta) & (cache.weights.beta == weights.beta)
    return Cache(jax.lax.cond(_in_all(same), recursion, anew), weights)


def add_rows(cache: Cache, stack: Stack, rows: chex.Array, next_obs: Any, networks: nn.Module) -> Cache:
    """Fills in the rows `[R]` of the replay that were written since."""
    num_networks = size(stack) * jax.tree.leaves(stack.outgoing)[0].shape[0]
    obs = jax.tree.map(lambda x: x[rows], next_obs)
    new = over_rows(lambda obs: logits(stack, cache.weights, obs, networks), num_networks, obs)
    return cache._replace(logits=cache.logits.at[rows].set(new))


@jax.custom_batching.custom_vmap
def _in_all(flag):
    """The flag; under vmap, whether it holds in all: one flag, so that a `cond` stays one."""
    return flag


@_in_all.def_vmap
def _in_all_batched(axis_size, in_batched, flag):
    del axis_size, in_batched
    return jnp.all(flag), False


def over_rows(function: Callable[..., chex.Array], num_networks: int, *rows: Any) -> chex.Array:
    """A function of `[B, ...]` arrays applied to `[R, N, ...]` ones, in chunks that suit so many networks."""
    lead = jax.tree.leaves(rows)[0].shape[:2]
    total = lead[0] * lead[1]
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), rows)
    chunk = min(total, max(1, _CHUNK // num_networks))

    def one(i, out):
        start = jnp.minimum(i * chunk, total - chunk)  # the last chunk overlaps the one before
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk), flat)
        return jax.lax.dynamic_update_slice_in_dim(out, function(*part), start, axis=0)

    first = jax.eval_shape(function, *jax.tree.map(lambda x: x[:chunk], flat))
    out = jax.lax.fori_loop(0, -(-total // chunk), one, jnp.zeros((total, *first.shape[1:]), first.dtype))
    return out.reshape(*lead, *first.shape[1:])
