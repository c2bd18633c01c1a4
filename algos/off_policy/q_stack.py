"""A stack of Q-functions as a policy, and the cache of its logits: the pure parts of StaQ."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ..core.collect import Policy
from ..core.masks import mask_logits, random_action
from .networks import apply_ensemble

# observations times networks that are evaluated at once: bounds the memory of the activations
_CHUNK = 32_768
# Q-functions that are evaluated at once: the stack is not evaluated beyond the block that is being
# filled
_BLOCK = 32


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


def block_size(stack: Stack) -> int:
    """Q-functions that are evaluated at once."""
    return min(size(stack), _BLOCK)


def push(stack: Stack, params: Any, ok: chex.Array | bool = True) -> Stack:
    """Puts an ensemble in the place of the oldest; where not `ok`, leaves the stack as it is,
    without copying it.
    """
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
    block = block_size(stack)
    by_age = losses.staq_coefficients(
        stack.pushed, memory=memory, eta=weights.eta, beta=weights.beta
    )
    coefficients = by_age[(stack.pushed - 1 - jnp.arange(memory)) % memory]

    filled = _largest(jnp.minimum(stack.pushed, memory))

    def add_block(total, i):
        start = jnp.minimum(i * block, memory - block)  # the last block overlaps the one before
        entries, coefs = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, start, block), (stack.params, coefficients)
        )
        coefs = jnp.where(start + jnp.arange(block) < i * block, 0.0, coefs)
        q = jax.vmap(lambda params: mean_q(networks, params, obs))(entries)
        return total + losses.staq_logits(q, coefs)

    def step(total, i):  # not a loop with a traced bound: gradients go through this
        return jax.lax.cond(i * block < filled, add_block, lambda total, i: total, total, i), None

    out = jax.eval_shape(lambda: mean_q(networks, stack.outgoing, obs))
    dtype = jnp.result_type(out.dtype, coefficients.dtype)
    return jax.lax.scan(step, jnp.zeros(out.shape, dtype), jnp.arange(-(-memory // block)))[0]


def advanced(
    stack: Stack, weights: Weights, old_logits: chex.Array, obs: Any, networks: nn.Module
) -> chex.Array:
    """The policy's logits from those before the last push, with the same weights: `[..., n]` to
    `[..., n]`.

    ξ' = β·ξ + η·Q_k + η·β^M/(1 − β^M)·(Q_k − Q_{k−M}), the last term being what has left the stack.
    """
    memory = size(stack)
    newest = jax.tree.map(lambda pool: pool[(stack.pushed - 1) % memory], stack.params)
    new_q, old_q = mean_q(networks, newest, obs), mean_q(networks, stack.outgoing, obs)
    old_q = jnp.where(stack.pushed > memory, old_q, 0.0)
    # η/(1 − β^M)
    first = losses.staq_coefficients(1, memory=memory, eta=weights.eta, beta=weights.beta)[0]
    return weights.beta * old_logits + first * new_q - (first - weights.eta) * old_q


class PolicyParams(NamedTuple):
    """What the policy is described by: a stack, its weights, and ε, how often an action is
    random.
    """

    stack: Stack
    weights: Weights
    epsilon: chex.Array


def make_policy(networks: nn.Module, num_actions: int) -> Policy:
    """The softmax of the stack's logits, and a uniformly random action with probability ε; the
    largest logit without exploring. Its params are `PolicyParams`.
    """

    def policy_logits(params, memory, obs):
        del memory
        return mask_logits(logits(params.stack, params.weights, obs, networks), obs)

    def explore(params, memory, obs, key):
        random_key, sample_key, choice_key = jax.random.split(key, 3)
        action = jax.random.categorical(sample_key, policy_logits(params, memory, obs))
        other = random_action(random_key, obs, action.shape, num_actions)
        at_random = jax.random.uniform(choice_key, action.shape) < params.epsilon
        return jnp.where(at_random, other, action).astype(jnp.int32), (), memory

    def act(params, memory, obs):
        return jnp.argmax(policy_logits(params, memory, obs), axis=-1).astype(jnp.int32), memory

    return Policy(explore, act, logits=policy_logits)


class Cache(NamedTuple):
    """The logits at the successors in a replay, `[capacity, N, n]`, and the weights that they were
    made with.
    """

    logits: chex.Array
    weights: Weights


def empty_cache(capacity: int, num_envs: int, num_actions: int) -> Cache:
    """A cache that fits no weights, so that it is made anew when first needed."""
    never = jnp.float32(jnp.nan)
    return Cache(jnp.zeros((capacity, num_envs, num_actions), jnp.float32), Weights(never, never))


def refresh(
    cache: Cache,
    stack: Stack,
    weights: Weights,
    next_obs: Any,
    num_rows: chex.Array,
    networks: nn.Module,
) -> Cache:
    """The cache after a push: by the recursion if the weights are still the same, else with the
    whole stack.

    Only the first `num_rows` rows are computed, those that have been written; under vmap, as many
    as in any.
    """
    ensemble = _ensemble_size(stack)
    num_rows = _largest(num_rows)

    def recursion():
        def advance(old, obs):
            return advanced(stack, weights, old, obs, networks)

        return over_rows(advance, 2 * ensemble, num_rows, cache.logits, next_obs)

    def anew():
        def whole(obs):
            return logits(stack, weights, obs, networks)

        return over_rows(whole, block_size(stack) * ensemble, num_rows, next_obs)

    same = (cache.weights.eta == weights.eta) & (cache.weights.beta == weights.beta)
    return Cache(jax.lax.cond(_in_all(same), recursion, anew), weights)


def add_rows(
    cache: Cache, stack: Stack, rows: chex.Array, next_obs: Any, networks: nn.Module
) -> Cache:
    """Fills in the rows `[R]` of the replay that were written since."""

    def whole(obs):
        return logits(stack, cache.weights, obs, networks)

    obs = jax.tree.map(lambda x: x[rows], next_obs)
    new = over_rows(whole, block_size(stack) * _ensemble_size(stack), len(rows), obs)
    return cache._replace(logits=cache.logits.at[rows].set(new))


def over_rows(
    function: Callable[..., chex.Array], num_networks: int, num_rows: chex.Array | int, *rows: Any
) -> chex.Array:
    """A function of `[B, ...]` arrays applied to `[R, N, ...]` ones, in chunks that suit so many
    networks.

    Rows from `num_rows` on are not computed (but for the rest of a chunk), and are 0.
    """
    lead = jax.tree.leaves(rows)[0].shape[:2]
    total = lead[0] * lead[1]
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), rows)
    chunk = min(total, max(1, _CHUNK // num_networks))

    def one(i, out):
        start = jnp.minimum(i * chunk, total - chunk)  # the last chunk overlaps the one before
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk), flat)
        return jax.lax.dynamic_update_slice_in_dim(out, function(*part), start, axis=0)

    first = jax.eval_shape(function, *jax.tree.map(lambda x: x[:chunk], flat))
    zeros = jnp.zeros((total, *first.shape[1:]), first.dtype)
    out = jax.lax.fori_loop(0, -(-num_rows * lead[1] // chunk), one, zeros)
    return out.reshape(*lead, *first.shape[1:])


def _shared(reduce):
    """A scalar as it is; under vmap `reduce` over all, one scalar, so that a `cond` or a loop's
    bound stays one.
    """

    @jax.custom_batching.custom_vmap
    def shared(x):
        return x

    @shared.def_vmap
    def batched(axis_size, in_batched, x):
        del axis_size, in_batched
        return shared(reduce(x)), False  # again shared, for one vmap in another

    return shared


_in_all, _largest = _shared(jnp.all), _shared(jnp.max)


def _ensemble_size(stack):
    return jax.tree.leaves(stack.outgoing)[0].shape[0]
