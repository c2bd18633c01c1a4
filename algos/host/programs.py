"""The compiled programs of a run, and whether the device has room for them."""

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..core import device_memory, parallel
from ..core.algorithm import Algorithm, State
from ..core.config import BaseConfig
from ..core.distribution import ALIKE, POPULATION, axis_size, of_each_device, on_mesh, state_specs
from ..core.evaluation import evaluator
from ..core.keys import seed_key
from ..core.training import advance
from . import processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What concerns the run and not the algorithm.

    Attributes:
      folder: the run folder; or a function that makes it, which is called when everything has
        compiled.
      title: of the curve and of the progress bar.
      seed: of the whole run.
      num_seeds: seeds trained side by side in one program; with 1 the State has no seed axis.
      configs: of a sweep: settings as States carry them, each traced field `[C]`, all with these
        seeds. The State has an axis of C·num_seeds members then, those of a setting side by side.
      mesh: the devices of the run: members lie along its axis "population", and the environments of
        each along "environments"; None is the default device.
      num_logs: rows of the log; also how often a signal is looked for.
      num_evals: evaluations and checkpoints, at evenly spaced rows.
      eval_episodes: episodes in one evaluation, per seed.
      record: whether to record an episode at the end, where the environment can be drawn.
      save_replay: whether checkpoints hold the replay. Without it they are small, and a resumed run
        begins with a replay of random actions: it is not the run that never stopped.
      log: where rows of the log go beside `metrics.jsonl`: "tensorboard", "wandb".
      description: what `config.json` is to say of the run, see `run_folder`; written once a resume
        has succeeded.
    """

    folder: Path | Callable[[], Path]
    title: str
    seed: int = 0
    num_seeds: int = 1
    configs: BaseConfig | None = None
    mesh: Mesh | None = None
    num_logs: int = 100
    num_evals: int = 10
    eval_episodes: int = 16
    record: bool = True
    save_replay: bool = True
    log: Sequence[str] = ("tensorboard",)
    description: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_settings(self) -> int:
        """Settings of a sweep side by side; 1 without one."""
        return 1 if self.configs is None else len(jax.tree.leaves(self.configs)[0])

    def member_configs(self) -> BaseConfig | None:
        """The configs of a sweep's members, each traced field `[C·num_seeds]`; None for others."""
        return jax.tree.map(lambda x: jnp.repeat(x, self.num_seeds), self.configs)


class Programs:
    """The three compiled programs of a run, each traced once."""

    def __init__(self, algorithm: Algorithm, settings: Settings):
        start = time.perf_counter()
        num_seeds = settings.num_seeds
        swept = settings.configs is not None
        many = num_seeds > 1 or swept
        batched = jax.vmap if many else (lambda f, **_: f)

        def keys_of(key):
            keys = jax.random.split(key, num_seeds + 1)
            if not many:
                return keys[1], keys[0]
            # Seeds are evaluated from start states of their own, the same ones each time.
            each = keys[1:], jax.random.split(keys[0], num_seeds) if num_seeds > 1 else keys[:1]
            if swept:  # every setting has the same keys, those of a run with this seed
                each = jax.tree.map(lambda x: jnp.tile(x, settings.num_settings), each)
            return each

        algorithm, mesh, specs, member = _placed(algorithm, settings, many)

        def chunk(state, num_iterations):
            return advance(algorithm, state, num_iterations)

        given = (settings.member_configs(),) if swept else ()
        init = on_mesh(batched(algorithm.init), mesh, (member,) * (1 + len(given)), specs)
        init = jax.jit(init)  # traced once, for its shapes and to be compiled
        chunk = on_mesh(batched(chunk, in_axes=(0, None)), mesh, (specs, ALIKE), (specs, member))
        evaluate = batched(evaluator(algorithm, num_episodes=settings.eval_episodes))
        evaluate = on_mesh(evaluate, mesh, (specs, member), member)
        key = seed_key(settings.seed)
        shapes = jax.eval_shape(keys_of, key)
        self.state_shape = jax.eval_shape(init, shapes[0], *given)
        self._member = self._shardings = None
        if mesh is not None:
            self._member = NamedSharding(mesh, member)
            self._shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
            self.state_shape = jax.tree.map(_lying, self.state_shape, self._shardings)
        _require_memory(algorithm, settings, self.state_shape)
        processes.meet()
        init_keys, self.eval_keys = self._of_members(jax.jit(keys_of)(key))
        self.init_arguments = (init_keys, *self._of_members(given))
        self.init = init.lower(*self.init_arguments).compile()
        count = jax.ShapeDtypeStruct((), jnp.int32)
        self.chunk = jax.jit(chunk, donate_argnums=0).lower(self.state_shape, count).compile()
        self.evaluate = jax.jit(evaluate).lower(self.state_shape, self.eval_keys).compile()
        _require_room(
            settings, {"start": self.init, "train": self.chunk, "evaluate": self.evaluate}
        )
        processes.meet()
        self.compile_seconds = time.perf_counter() - start

    def with_configs(self, settings: Settings) -> "Programs":
        """The same programs for other settings of a sweep, as many."""
        other = copy.copy(self)
        configs = self._of_members(settings.member_configs())
        other.init_arguments = (self.init_arguments[0], configs)
        return other

    def on_devices(self, state: State) -> State:
        """A State as it lies on the devices of the run."""
        return state if self._shardings is None else processes.put(state, self._shardings)

    def _of_members(self, tree: Any) -> Any:
        """What each member has one of, on its devices."""
        return tree if self._member is None else processes.put(tree, self._member)


def _placed(algorithm: Algorithm, settings: Settings, many: bool) -> tuple:
    """The algorithm of each device; the mesh, how a State lies on it, and how that lies which each
    member has one of. Where there is one device: the algorithm itself, and no mesh.

    Raises:
      ConfigError: a number cannot be shared out evenly by the devices.
    """
    mesh = settings.mesh
    if mesh is None or mesh.size == 1:
        return algorithm, None, ALIKE, ALIKE
    num_devices = axis_size(mesh, parallel.AXIS)
    members = settings.num_seeds * settings.num_settings
    parallel.require_multiple("num_seeds", members, axis_size(mesh, POPULATION))
    parallel.require_multiple("eval_episodes", settings.eval_episodes, num_devices)
    specs = state_specs(algorithm, num_devices)
    algorithm = of_each_device(algorithm, specs)
    lead = (POPULATION if axis_size(mesh, POPULATION) > 1 else None,) if many else ()
    specs = jax.tree.map(lambda spec: PartitionSpec(*lead, *spec), specs)
    return algorithm, mesh, specs, PartitionSpec(*lead)


def _lying(shape: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _require_memory(algorithm: Algorithm, settings: Settings, state_shape: State) -> None:
    """Refuses more seeds, or more episodes in an evaluation, than the device has room for.

    Raises:
      ConfigError: with the bytes needed and there.
    """
    seeds = settings.num_seeds * settings.num_settings
    episodes = settings.eval_episodes
    devices = 1 if settings.mesh is None else settings.mesh.size
    # States and observations, before and after a step.
    each = 2.0 * device_memory.tree_bytes(jax.eval_shape(algorithm.env.reset, jax.random.key(0)))
    what = f"an evaluation of {episodes:,} episodes for each of {seeds:,} seeds"
    device_memory.require(
        settings,
        device_memory.Part(
            ("num_seeds",), device_memory.shard_bytes(state_shape), f"the State of {seeds:,} seeds"
        ),
        device_memory.Part(("eval_episodes", "num_seeds"), each * episodes * seeds / devices, what),
        num_devices=1,
    )


def _require_room(settings: Settings, programs: dict[str, Any]) -> None:
    """Refuses programs that take more memory, with all that is intermediate, than the device has.

    Raises:
      ConfigError: with the bytes needed and there.
    """
    for verb, program in programs.items():
        needed = device_memory.program_bytes(program)
        if needed is not None:
            fields = ("num_seeds", "eval_episodes") if verb == "evaluate" else ("num_seeds",)
            part = device_memory.Part(fields, needed, f"the program to {verb}")
            device_memory.require(settings, part, num_devices=1)
