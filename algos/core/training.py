"""A whole run as one pure function."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from ...envs.options import require_count
from .algorithm import Algorithm, Metrics, State
from .distribution import ALIKE, axis_size, of_each_device, on_mesh, state_specs
from .metrics import mean_of, summands
from .parallel import AXIS

# (state, key) -> metrics, as `evaluation.evaluator` makes it
Evaluate = Callable[[State, chex.PRNGKey], Metrics]

_FAULT = "charts/fault"


def train(
    algorithm: Algorithm,
    key: chex.PRNGKey,
    *,
    config: Any = None,
    num_iterations: int,
    log_every: int = 1,
    evaluate: Evaluate | None = None,
    mesh: Mesh | None = None,
) -> tuple[State, Metrics]:
    """Runs an algorithm from scratch; pure, so jit it, and vmap it over keys and configs.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      key: a typed key.
      config: hyperparameters with the static fields of the algorithm's own; that one by default.
      num_iterations: calls of `algorithm.step`. Schedules run over config.total_steps, whatever
        this is.
      log_every: iterations that one row of the history sums up.
      evaluate: called with (state, key) after every log_every iterations, with the same key each
        time, so that evaluations differ by the policy alone. On devices that share the run it is
        called with the State of each, as `algos.evaluator` knows how to.
      mesh: of devices that share the run along its axis "environments", see `distribute`.

    Returns:
      (the final State, the history: each leaf `[num_iterations // log_every, ...]`).

    Raises:
      ValueError: num_iterations or log_every is no integer above 0, log_every is above
        num_iterations, key is not one typed key, evaluate is no function, or a number of the config
        cannot be shared by the devices.
    """
    if not (jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key) and key.shape == ()):
        found = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
        raise ValueError(
            f"key={found}: must be one typed key, such as jax.random.key(0); vmap over several"
        )
    if not (evaluate is None or callable(evaluate)):
        raise ValueError(
            f"evaluate={evaluate!r}: must be a function of (state, key), such as"
            " algos.evaluator(algorithm)"
        )
    require_count("num_iterations", num_iterations)
    require_count("log_every", log_every)
    if log_every > num_iterations:
        raise ValueError(
            f"log_every={log_every}: must be between 1 and num_iterations={num_iterations}"
        )
    num_devices = axis_size(mesh, AXIS)
    if num_devices > 1:
        specs = state_specs(algorithm, num_devices)
        each = of_each_device(algorithm, specs)
        options = {"num_iterations": num_iterations, "log_every": log_every, "evaluate": evaluate}
        run = on_mesh(
            lambda key, config: train(each, key, config=config, **options),
            mesh,
            (ALIKE, ALIKE),
            (specs, ALIKE),
        )
        return run(key, algorithm.config.for_state(config, algorithm.env))
    init_key, evaluation_key = jax.random.split(key)
    state = algorithm.init(init_key, config)

    def row(state, _):
        state, metrics = advance(algorithm, state, log_every)
        if evaluate is not None:
            metrics |= evaluate(state, jax.random.clone(evaluation_key))
        return state, metrics

    state, history = jax.lax.scan(row, state, length=num_iterations // log_every)
    rest = num_iterations % log_every
    if rest:
        state, _ = advance(algorithm, state, rest)
    return state, history


def advance(
    algorithm: Algorithm, state: State, num_iterations: int | chex.Array
) -> tuple[State, Metrics]:
    """Runs some iterations; their number may be traced, so that one compiled program serves any.

    Returns:
      (state, metrics): episodic metrics averaged over the episodes that ended (NaN if none did),
      their number summed, `charts/fault` that of the last iteration, which is the first fault, all
      others averaged over the iterations.
    """
    step = jax.jit(algorithm.step, inline=True)  # so that it is traced once for both
    shapes = jax.eval_shape(step, state)[1]
    # As one vector: a kernel for each of a dozen sums would take longer to compile than the sums
    # take.
    empty, no_fault = _without_fault(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    empty, unravel = ravel_pytree(empty)

    def iteration(_, carry):
        state, sums, _ = carry
        state, metrics = step(state)
        metrics, fault = _without_fault(metrics)
        return state, sums + ravel_pytree(summands(metrics))[0], fault

    state, sums, fault = jax.lax.fori_loop(0, num_iterations, iteration, (state, empty, no_fault))
    sums = unravel(sums)
    return state, mean_of(sums, num_iterations) | fault


def _without_fault(metrics: Metrics) -> tuple[Metrics, Metrics]:
    """The metrics but for the fault, and that one, if they have one."""
    averaged = {name: x for name, x in metrics.items() if name != _FAULT}
    return averaged, {name: x for name, x in metrics.items() if name not in averaged}
