"""Several processes, of one host or of many, that train one model: `jax.distributed`.

Each runs the same script with the same flags, and has devices of its own, which together are those
of the run. All compute, and all write their part of the checkpoints; the first alone prints, and
writes everything else. So the run folder must be one that all of them see, under one path.
"""

import contextlib
import itertools
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from ..core.fields import ConfigError

FLAGS = ("coordinator", "num_processes", "process_id", "distributed")
_HEARTBEAT_SECONDS = 30  # after so many without a word a process is taken for dead
_PATIENCE_SECONDS = 3600  # for one that compiles, or that draws at the end
# How jax's transports say that there is nobody at the other end.
_LOSS = re.compile("gloo|nccl|coordination|connection (reset|closed)|socket closed", re.IGNORECASE)
_meetings = itertools.count()


class LostError(RuntimeError):
    """Another process of the run has ended before its time; the message says what is left."""


def define_flags(values: flags.FlagValues) -> None:
    """The flags that say which processes there are."""
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT at which the first of several processes waits for the others.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes", None, "Processes that train one model.", flag_values=values
    )
    flags.DEFINE_integer(
        "process_id", None, "Which of them this one is, from 0.", flag_values=values
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "Whether jax is to find the processes by itself: under SLURM, Open MPI, Kubernetes, or on"
        " TPUs.",
        flag_values=values,
    )


@contextlib.contextmanager
def joined(values: flags.FlagValues) -> Iterator[None]:
    """Inside, this process is one of those that the flags say; without them nothing happens. The
    devices of all are then the run's, and standard output of all but the first goes nowhere.

    Raises:
      ConfigError: the flags do not go together, the port is taken, or jax finds no processes.
    """
    _require_consistent(values)
    if values.coordinator is None and not values.distributed:
        yield
        return
    # The runner has handlers of its own, which save.
    jax.config.update("jax_enable_preemption_service", False)
    timeouts = {
        "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS,
        "shutdown_timeout_seconds": _PATIENCE_SECONDS,
    }
    if values.distributed:
        try:
            jax.distributed.initialize(**timeouts)
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError("distributed", True, f"jax found no processes ({reason})") from error
    else:
        jax.distributed.initialize(
            values.coordinator,
            values.num_processes,
            values.process_id,
            cluster_detection_method="deactivate",
            **timeouts,
        )
    if not values["num_devices"].present:
        values["num_devices"].parse(jax.device_count())
    if not first():
        sys.stdout.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    yield
    # After an error nothing is waited for: the others may never come here.
    jax.distributed.shutdown()


def _require_consistent(values: flags.FlagValues) -> None:
    address, number, which = values.coordinator, values.num_processes, values.process_id
    for name in FLAGS[1:3]:
        if address is None and values[name].value is not None:
            raise ConfigError(name, values[name].value, "needs --coordinator=HOST:PORT")
    if address is None:
        return
    if values.distributed:
        raise ConfigError("distributed", True, "finds the coordinator by itself: give one of both")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError("coordinator", address, "must be HOST:PORT")
    if number is None or number < 1:
        raise ConfigError("num_processes", number, "must be at least 1, with a coordinator")
    if which is None or not 0 <= which < number:
        allowed = f"must be at least 0 and below the {number} processes"
        raise ConfigError("process_id", which, allowed)
    if which == 0:
        _require_free(address, int(port))


def _require_free(address: str, port: int) -> None:
    """Refuses a port that is taken, of which jax would say nothing."""
    try:
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("", port))
    except OSError as error:
        allowed = f"the port cannot be had ({error.strerror})"
        raise ConfigError("coordinator", address, allowed) from error


def several() -> bool:
    """Whether there is more than this process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this process prints, logs and draws."""
    return not several() or jax.process_index() == 0


def meet() -> None:
    """Waits for all processes, for as long as one may take to compile. What they exchange first
    must come after such a meeting: Gloo waits half a minute for a connection.
    """
    if several():
        from orbax.checkpoint import multihost

        wait = multihost.get_barrier_sync_fn()
        wait(key=f"onejit-{next(_meetings)}", timeout_ms=1000 * _PATIENCE_SECONDS)


def largest(number: int) -> int:
    """The largest of the processes' numbers, in all of them."""
    if not several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def of_first(make: Callable[[], Path]) -> Path:
    """The path that the first process makes, in all of them."""
    if not several():
        return make()
    text = str(make()).encode() if first() else b""
    padded = np.frombuffer(text.ljust(4096, b"\0"), np.uint8)
    return Path(bytes(multihost_utils.broadcast_one_to_all(padded)).rstrip(b"\0").decode())


def put(tree: Any, shardings: Any) -> Any:
    """`jax.device_put`, also onto devices of other processes, which have the same arrays.

    Args:
      tree: of arrays.
      shardings: of each, or one for all.
    """
    if not several():
        return jax.device_put(tree, shardings)
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(_put, tree, shardings)


def _put(x: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    return x if x.sharding == sharding else jax.jit(_identity, out_shardings=sharding)(x)


def _identity(x: Any) -> Any:
    return x


def own(tree: Any) -> Any:
    """What lies on the first of this process's devices; without several processes the tree itself.
    Functions of it need no other process.
    """
    return jax.tree.map(lambda x: x.addressable_data(0), tree) if several() else tree


@contextlib.contextmanager
def losses_told(left: Callable[[], str]) -> Iterator[None]:
    """Inside, the error of a transport that finds nobody is told as what it means.

    Args:
      left: says what is left of the run.

    Raises:
      LostError: in place of it.
    """
    try:
        yield
    except Exception as error:
        if not several() or not _LOSS.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        raise LostError(f"another process of the run is gone ({reason}); {left()}") from error
