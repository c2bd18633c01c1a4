"""Sweeps: settings × seeds as one compiled program, in as many passes as the device's memory asks
for.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from . import device_memory, parallel
from .algorithm import Algorithm, Metrics, State
from .config import BaseConfig, ConfigError
from .distribution import POPULATION, axis_size, of_each_device, on_mesh, state_specs
from .training import Evaluate, train

Columns = Mapping[str, Any]  # a column of values for each hyperparameter


class Sweep(NamedTuple):
    """What the members of a sweep did; member c·S + s is setting c with key s.

    Attributes:
      states: leaves `[C·S, ...]`: what `keep` took of the final States.
      history: leaves `[C·S, num_iterations // log_every]`.
      configs: the hyperparameters, each traced field `[C·S]`.
      chunk: members that ran side by side; below C·S they did not all fit.
    """

    states: Any
    history: Metrics
    configs: BaseConfig
    chunk: int


def sweep(
    algorithm: Algorithm,
    keys: chex.Array,
    configs: BaseConfig | Columns,
    *,
    num_iterations: int,
    log_every: int = 1,
    evaluate: Evaluate | None = None,
    keep: Callable[[State], Any] = lambda state: state,
    memory_bytes: float | None = None,
    max_chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Trains every setting with every key: one compiled program, `vmap`ped over members. Not to be
    jitted: how many members run side by side is decided on the host.

    All settings have the same keys, so that they differ by the hyperparameters alone. What a member
    does is what `train(algorithm, key, config=...)` does, up to rounding.

    Memory is estimated from the jaxpr before anything compiles. Where not all members fit, they are
    cut into chunks of one size, the last filled up with copies, which run one after the other; if
    the compiled program takes more than was estimated, it is compiled again with fewer.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      keys: typed keys `[S]`.
      configs: the settings, C of them: columns `[C]` of traced hyperparameters as `grid` and `draw`
        give them, or a Config with such columns. What has no column is the algorithm's own.
      num_iterations: as of `train`.
      log_every: as of `train`.
      evaluate: as of `train`.
      keep: of each final State; `lambda state: state.learner` leaves replay and environments out.
      memory_bytes: that may be used, of each device; by default what it has.
      max_chunk: members side by side, at most; with a mesh one on each group of devices at least.
      mesh: of devices: members lie along its axis "population", without a word between them, and
        devices along "environments" share the environments of each member.

    Raises:
      ConfigError: a field is unknown or static, a value is not allowed, the columns differ in
        length, or not even one member fits.
      ValueError: keys are no `[S]` typed keys, or what `train` raises.
    """
    if not jnp.issubdtype(getattr(keys, "dtype", None), jax.dtypes.prng_key) or keys.ndim != 1:
        raise ValueError(f"keys={keys}: must be typed keys [S], such as jax.random.split(key, 8)")
    if max_chunk is not None and max_chunk < 1:
        raise ConfigError("max_chunk", max_chunk, "must be at least 1")
    configs = stacked(algorithm, configs)
    num_settings, num_seeds = len(jax.tree.leaves(configs)[0]), keys.shape[0]
    size = num_settings * num_seeds
    configs = jax.tree.map(lambda x: jnp.repeat(x, num_seeds), configs)
    keys = jax.random.clone(keys)[jnp.arange(size) % num_seeds]

    num_groups, num_devices = (axis_size(mesh, axis) for axis in (POPULATION, parallel.AXIS))
    member = PartitionSpec(POPULATION if num_groups > 1 else None)
    specs = state_specs(algorithm, num_devices) if mesh is not None else None
    lying = jax.tree.map(lambda spec: PartitionSpec(*member, *spec), specs)

    def runner(algorithm, mesh):
        @jax.vmap
        def run(key, config):
            return train(
                algorithm,
                key,
                config=config,
                num_iterations=num_iterations,
                log_every=log_every,
                evaluate=evaluate,
            )

        run = on_mesh(run, mesh, (member, member), (lying, member))

        def kept(keys, configs):
            states, history = run(keys, configs)
            return jax.vmap(keep)(states), history

        return kept

    run = runner(of_each_device(algorithm, specs), mesh)
    # A member on devices of its own takes no more of each than it takes of one.
    one = runner(algorithm, None)
    chunk, program = _compile(run, one, keys, configs, memory_bytes, max_chunk, num_groups)
    passes = []
    for start in range(0, size, chunk):
        index = jnp.minimum(jnp.arange(start, start + chunk), size - 1)
        passes.append(program(keys[index], jax.tree.map(lambda x, i=index: x[i], configs)))
    states, history = jax.tree.map(lambda *each: jnp.concatenate(each)[:size], *passes)
    return Sweep(states, history, configs, chunk)


def stacked(algorithm: Algorithm, configs: BaseConfig | Columns) -> BaseConfig:
    """The settings as a Config as States carry it, each traced field `[C]`, checked value by value.

    Raises:
      ConfigError: a field is unknown or static, a value is not allowed, or the columns differ in
        length.
    """
    own = algorithm.config
    if isinstance(configs, BaseConfig):
        own.of(configs).require_same_static_fields(own)
    else:
        for name in configs:
            if _field(own, name).metadata["static"]:
                allowed = (
                    "is static, each of its values is a program of its own:"
                    " algos.static_combinations takes them apart"
                )
                raise ConfigError(name, np.asarray(configs[name]).tolist(), allowed)
        configs = own.replace(**{name: np.asarray(each) for name, each in configs.items()})
    configs.validate(algorithm.env)
    leaves = configs.as_leaves()
    shapes = {np.shape(x) for x in jax.tree.leaves(leaves)} - {()}
    if any(len(shape) != 1 for shape in shapes):
        raise ConfigError("configs", f"columns of the shapes {shapes}", "must have one axis")
    length = shapes.pop()[0] if shapes else 1
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (length,)), leaves)


def static_combinations(
    config: BaseConfig, settings: Columns
) -> Iterator[tuple[BaseConfig, dict[str, np.ndarray], np.ndarray]]:
    """Takes settings apart into those that one program can run together.

    Args:
      config: whose values stand where settings say nothing.
      settings: columns `[C]`, of static hyperparameters too.

    Yields:
      For each combination of static values: the Config with these, the columns of the traced ones
      (one of config's own values if there is none), and the places int `[c]` in `settings`.

    Raises:
      ConfigError: a field is unknown, or the columns differ in length.
    """
    static = [name for name in settings if _field(config, name).metadata["static"]]
    lengths = {len(each) for each in settings.values()}
    if len(lengths) > 1:
        raise ConfigError("settings", f"columns of the lengths {lengths}", "must be of one length")
    groups: dict[tuple, list[int]] = {}
    for place in range(lengths.pop() if lengths else 1):
        values = tuple(_plain(settings[name][place]) for name in static)
        groups.setdefault(values, []).append(place)
    for values, places in groups.items():
        traced = {name: np.asarray(x)[places] for name, x in settings.items() if name not in static}
        if not traced:
            traced = {"total_steps": np.full(len(places), config.total_steps)}
        yield config.replace(**dict(zip(static, values, strict=True))), traced, np.array(places)


def largest_chunk(each: float, kept: float, size: int, memory_bytes: float | None) -> int:
    """How many of `size` members fit side by side, while the results of all are kept.

    Args:
      each: bytes of a member that runs, its result included.
      kept: bytes of a member's result.
      size: members in all.
      memory_bytes: there are; None if not known, then all fit.

    Returns:
      At most `size`; 0 if not even one fits.
    """
    if memory_bytes is None or size * each <= memory_bytes:
        return size
    # Putting the results of the chunks together takes them twice.
    return max(0, min(size, int((memory_bytes - 2.0 * size * kept) // each)))


def _compile(run, one, keys, configs, memory_bytes, max_chunk, num_groups):
    """(members side by side, as many on each group of devices, the compiled program of so many).

    `one` is what memory is estimated of, without a mesh. The numbers here are those of a group.
    """
    size = -(-keys.shape[0] // num_groups)
    available = device_memory.device_bytes() if memory_bytes is None else memory_bytes

    def arguments(num):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((num, *x.shape[1:]), x.dtype), (keys, configs)
        )

    kept = device_memory.tree_bytes(jax.eval_shape(one, *arguments(1)))
    each = max(kept, device_memory.peak_bytes(one, *arguments(1)))
    chunk = size if max_chunk is None else max(1, max_chunk // num_groups)
    while True:
        chunk = min(chunk, largest_chunk(each, kept, size, available))
        if chunk < 1:
            allowed = (
                f"must be smaller: a member takes {each / 2**20:,.1f} MiB and leaves"
                f" {kept / 2**20:,.1f} MiB, there are {available / 2**20:,.1f} MiB"
            )
            raise ConfigError("the population", size, allowed)
        chunk = -(-size // -(-size // chunk))  # chunks of about the same size
        program = jax.jit(run).lower(*arguments(num_groups * chunk)).compile()
        needed = device_memory.program_bytes(program)
        if needed is None or available is None or needed + 2 * kept * (size - chunk) <= available:
            return num_groups * chunk, program
        each, chunk = max(each, needed / chunk), chunk - 1


def _field(config: BaseConfig, name: str) -> dataclasses.Field:
    for field in dataclasses.fields(config):
        if field.name == name:
            return field
    raise ConfigError(name, "swept", "is no hyperparameter of this algorithm")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
