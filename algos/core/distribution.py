"""Algorithms over the devices of a mesh: data parallel, and populations.

A mesh has up to two axes, see `make_mesh`. Along "environments" the devices train one model: each
steps its share of the environments, keeps its share of the replay and learns from its share of
every minibatch, with keys of its own; gradients and statistics are averaged (`core.parallel`), so
that parameters are the same on all. Along "population" they train models of their own, without a
word between them.

The State keeps its global shape: what has an axis of environments lies along the devices, all else
is on each of them. So it is evaluated, drawn, saved and restored as that of one device.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from . import parallel
from .algorithm import Algorithm
from .fields import ConfigError
from .metrics import mean_of, summands

POPULATION = "population"
ALIKE = PartitionSpec()  # the same on all devices


def make_mesh(num_devices: int = 1, *, population: int = 1) -> Mesh:
    """The first population·num_devices devices, as a mesh with the axes "population" and
    "environments". Where several processes are joined (`jax.distributed`) it has to be all theirs.

    Args:
      num_devices: that train one model together.
      population: groups of so many, each with members of its own.

    Raises:
      ConfigError: there are not so many devices, or more than that in other processes too, or a
        number is below 1.
    """
    devices = jax.devices()
    for name, number in {"num_devices": num_devices, "population": population}.items():
        if number < 1:
            raise ConfigError(name, number, "must be at least 1")
    needed = num_devices * population
    if needed > len(devices):
        hint = ""
        if devices[0].platform == "cpu" and jax.process_count() == 1:
            hint = f"; JAX_NUM_CPU_DEVICES={needed} makes more of them"
        raise ConfigError("num_devices", needed, f"must be at most {len(devices)}{hint}")
    if needed < len(devices) and jax.process_count() > 1:
        allowed = f"must be {len(devices)}, all of the {jax.process_count()} processes"
        raise ConfigError("num_devices", needed, allowed)
    grid = np.array(devices[:needed]).reshape(population, num_devices)
    # The default, Explicit, breaks Brax and gymnax.
    return Mesh(grid, (POPULATION, parallel.AXIS), axis_types=(AxisType.Auto,) * 2)


def axis_size(mesh: Mesh | None, axis: str) -> int:
    """Devices along an axis of a mesh, 1 where it does not have it.

    Raises:
      ConfigError: it has neither of the two axes, or others than Auto ones.
    """
    if mesh is None:
        return 1
    names = {POPULATION, parallel.AXIS}
    if not names & set(mesh.axis_names) or set(mesh.axis_types) != {AxisType.Auto}:
        found = ", ".join(
            f"{x} ({y})" for x, y in zip(mesh.axis_names, mesh.axis_types, strict=True)
        )
        allowed = (
            f"must have Auto axes, {' or '.join(sorted(names))}, as algos.make_mesh makes them"
        )
        raise ConfigError("mesh", f"a mesh with {found}", allowed)
    return mesh.shape.get(axis, 1)


def on_mesh(function: Callable, mesh: Mesh | None, in_specs: Any, out_specs: Any) -> Callable:
    """A function that each device of the mesh computes for its part of the arguments; itself
    without a mesh.
    """
    if mesh is None:
        return function
    # The replicas of a State are kept alike by the functions of `parallel`, which nothing checks.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def state_specs(algorithm: Algorithm, num_devices: int) -> Any:
    """How a State lies on devices that share its environments: a State of `PartitionSpec`s.

    The axis of the environments is the one that is shorter in what one of several devices makes.

    Raises:
      ConfigError: the config cannot be shared out evenly, or the algorithm is distributed already.
    """
    if algorithm.shardings is not None:
        raise ConfigError("algorithm", "a distributed one", "must be as make returned it")
    whole = jax.eval_shape(algorithm.init, jax.random.key(0))
    if num_devices == 1:
        return jax.tree.map(lambda leaf: ALIKE, whole)
    algorithm.config.require_shares(num_devices)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_devices))
    parts = jax.eval_shape(jax.vmap(algorithm.init, axis_name=parallel.AXIS), keys)

    def spec(whole, parts):
        sizes = zip(whole.shape, parts.shape[1:], strict=True)
        axes = [axis for axis, (all_of_it, part) in enumerate(sizes) if part != all_of_it]
        return PartitionSpec(*[None] * axes[0], parallel.AXIS) if axes else ALIKE

    return jax.tree.map(spec, whole, parts)


def of_each_device(algorithm: Algorithm, specs: Any) -> Algorithm:
    """What each device does of an algorithm, where the axis of the environments is bound: `init`
    and `step` with keys of its own, replicas that are alike, and the metrics of all.

    Args:
      algorithm: on all environments.
      specs: as `state_specs` gives them.
    """

    def init(key, config=None):
        if parallel.size() == 1:
            return algorithm.init(key, config)
        state = algorithm.init(parallel.own_key(key), config)
        return jax.tree.map(lambda x, spec: parallel.same(x) if spec == ALIKE else x, state, specs)

    def step(state):
        if parallel.size() == 1:
            return algorithm.step(state)
        key, step_key = jax.random.split(state.key)
        state, metrics = algorithm.step(state._replace(key=parallel.own_key(step_key)))
        metrics = mean_of(parallel.total(summands(metrics)), parallel.size())
        return state._replace(key=key), metrics

    return algorithm._replace(init=init, step=step)


def distribute(algorithm: Algorithm, mesh: Mesh) -> Algorithm:
    """An algorithm whose environments are shared by the devices along a mesh's axis "environments".

    num_envs, batch_size, buffer_size and the like stay totals. What it learns is as good as on one
    device, and not the same to the bit: keys differ from device to device. With one device along
    the axis it is the algorithm itself.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      mesh: as `make_mesh` makes it, or an own one with Auto axes.

    Raises:
      ConfigError: a number cannot be shared out evenly; it names the numbers that can.
    """
    num_devices = axis_size(mesh, parallel.AXIS)
    if num_devices == 1:
        return algorithm
    specs = state_specs(algorithm, num_devices)
    each = of_each_device(algorithm, specs)
    init_with = on_mesh(each.init, mesh, (ALIKE, ALIKE), specs)

    def init(key, config=None):
        return init_with(key, algorithm.config.for_state(config, algorithm.env))

    return algorithm._replace(
        init=init,
        step=on_mesh(each.step, mesh, (specs,), (specs, ALIKE)),
        shardings=jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs),
    )
