"""The compiled programs of a run, and whether the device has room for them."""

import copy
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..core import device_memory
from ..core.algorithm import Algorithm, State
from ..core.config import BaseConfig
from ..core.evaluation import evaluator
from ..core.keys import seed_key
from ..core.training import advance


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
      num_logs: rows of the log; also how often a signal is looked for.
      num_evals: evaluations and checkpoints, at evenly spaced rows.
      eval_episodes: episodes in one evaluation, per seed.
      record: whether to record an episode at the end, where the environment can be drawn.
      save_replay: whether checkpoints hold the replay. Without it they are small, and a resumed run
        begins with a replay of random actions: it is not the run that never stopped.
      description: what `config.json` is to say of the run, see `run_folder`; written once a resume
        has succeeded.
    """

    folder: Path | Callable[[], Path]
    title: str
    seed: int = 0
    num_seeds: int = 1
    configs: BaseConfig | None = None
    num_logs: int = 100
    num_evals: int = 10
    eval_episodes: int = 16
    record: bool = True
    save_replay: bool = True
    description: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_settings(self) -> int:
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

        def chunk(state, num_iterations):
            return advance(algorithm, state, num_iterations)

        init = jax.jit(batched(algorithm.init))  # traced once, for its shapes and to be compiled
        chunk = batched(chunk, in_axes=(0, None))
        evaluate = batched(evaluator(algorithm, num_episodes=settings.eval_episodes))
        key = seed_key(settings.seed)
        shapes = jax.eval_shape(keys_of, key)
        given = (settings.member_configs(),) if swept else ()
        self.state_shape = jax.eval_shape(init, shapes[0], *given)
        _require_memory(algorithm, settings, self.state_shape)
        init_keys, self.eval_keys = jax.jit(keys_of)(key)
        self.init_arguments = (init_keys, *given)
        self.init = init.lower(*self.init_arguments).compile()
        count = jax.ShapeDtypeStruct((), jnp.int32)
        self.chunk = jax.jit(chunk, donate_argnums=0).lower(self.state_shape, count).compile()
        self.evaluate = jax.jit(evaluate).lower(self.state_shape, self.eval_keys).compile()
        _require_room(
            settings, {"start": self.init, "train": self.chunk, "evaluate": self.evaluate}
        )
        self.compile_seconds = time.perf_counter() - start

    def with_configs(self, settings: Settings) -> "Programs":
        """The same programs for other settings of a sweep, as many."""
        other = copy.copy(self)
        other.init_arguments = (self.init_arguments[0], settings.member_configs())
        return other


def _require_memory(algorithm: Algorithm, settings: Settings, state_shape: State) -> None:
    """Refuses more seeds, or more episodes in an evaluation, than the device has room for.

    Raises:
      ConfigError: with the bytes needed and there.
    """
    seeds = settings.num_seeds * settings.num_settings
    episodes = settings.eval_episodes
    # States and observations, before and after a step.
    each = 2.0 * device_memory.tree_bytes(jax.eval_shape(algorithm.env.reset, jax.random.key(0)))
    what = f"an evaluation of {episodes:,} episodes for each of {seeds:,} seeds"
    device_memory.require(
        settings,
        device_memory.Part(
            ("num_seeds",), device_memory.tree_bytes(state_shape), f"the State of {seeds:,} seeds"
        ),
        device_memory.Part(("eval_episodes", "num_seeds"), each * episodes * seeds, what),
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
            device_memory.require(
                settings, device_memory.Part(fields, needed, f"the program to {verb}")
            )
