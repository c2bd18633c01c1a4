"""Fits a flow to samples in one go, inside a program: what GoRL does between its stages."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from . import guard, keys, parallel
from .generative import flow_error

HELD_OUT = 10  # one in so many samples tells which parameters are best


def fit_flow(
    field: nn.Module,
    obs: Any,
    x: chex.Array,
    key: chex.PRNGKey,
    *,
    num_rounds: int | chex.Array,
    steps_per_round: int,
    batch_size: int,
    learning_rate: float | chex.Array,
) -> Any:
    """Parameters of a velocity, from fresh ones by Adam's steps on flow matching: of those after
    each round the ones with the smallest loss on the last tenth of the samples, which are not
    trained on.

    Args:
      field: (observations, x, t) -> velocity.
      obs: what each sample goes with, `[M, ...]`.
      x: the samples, `[M, d]`, at least `HELD_OUT`.
      key: a typed key.
      num_rounds: may be traced; with 0 nothing is trained. (A loop of no rounds costs nothing under
        vmap too, where a cond would become a select and the fit always be taken.)
      steps_per_round: gradient steps.
      batch_size: samples in a minibatch, drawn with replacement.
      learning_rate: of Adam.
    """
    optimiser = optax.adam(learning_rate)
    init_key, check_key, step_key = jax.random.split(key, 3)
    num_trained = x.shape[0] - x.shape[0] // HELD_OUT
    held_out = jax.tree.map(lambda leaf: leaf[num_trained:], (obs, x))

    def error(params, rows, key):
        obs, x = rows
        return jnp.mean(flow_error(partial(field.apply, params, obs), x, key))

    def gradient_step(carry, key_data):
        params, opt_state = carry
        place_key, draw_key = keys.unpack_keys(key_data, key)
        place = jax.random.randint(place_key, (batch_size,), 0, num_trained)
        rows = jax.tree.map(lambda leaf: leaf[place], (obs, x))
        grads = parallel.mean(jax.grad(error)(params, rows, draw_key))
        updates, opt_state = optimiser.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    def one_round(number, carry):
        trained, best, least = carry
        round_key = jax.random.fold_in(jax.random.clone(step_key), number)
        key_data = keys.split_for_scan(round_key, steps_per_round, 2)
        trained, _ = jax.lax.scan(gradient_step, trained, key_data)
        found = parallel.mean(error(trained[0], held_out, jax.random.clone(check_key)))
        better = ~(found >= least)  # what is not finite goes on, so that a guard sees it
        return trained, guard.keep(better, trained[0], best), jnp.where(better, found, least)

    params = field.init(parallel.same(init_key), jax.tree.map(lambda leaf: leaf[0], obs))
    start = (params, optimiser.init(params)), params, jnp.float32(jnp.inf)
    return jax.lax.fori_loop(0, num_rounds, one_round, start)[1]
