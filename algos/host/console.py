"""Output that never stops a run: a closed pipe, a full disk or a terminal without Unicode lose
text, nothing else.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class _Lenient:
    """A text stream; after an error, what is written to it goes nowhere."""

    def __init__(self, stream: Any):
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        with self._quiet():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._quiet():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _quiet(self):
        try:
            yield
        except OSError:
            # What is left in Python's own buffer is written at exit, and would fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def make_console(*, errors: bool = False) -> Console:
    """A console on standard output, or for errors."""
    stream = sys.stderr if errors else sys.stdout
    return Console(file=_Lenient(stream), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def progress(
    console: Console, title: str
) -> Iterator[Callable[[float, int, dict[str, Any]], None]]:
    """A progress bar on a terminal, or a line per evaluation elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("[cyan]{task.fields[sps]}"),
        TextColumn("return [green]{task.fields[episode_return]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0, sps="", episode_return="–")

        def report(fraction: float, steps: int, metrics: dict[str, Any]) -> None:
            value = np.asarray(metrics["charts/episodic_return"], float)
            known = value[np.isfinite(value)]
            shown = {"sps": f"{metrics['charts/sps']:,.0f} steps/s"}
            if known.size:
                shown["episode_return"] = f"{known.mean():.1f}"
            progress.update(task, completed=fraction, **shown)
            if "eval/episodic_return" in metrics:
                score = np.mean(metrics["eval/episodic_return"])
                console.print(
                    f"{steps:>12,} steps  {shown['sps']:>18}  evaluated return {score:.1f}"
                )

        yield report


def track(items: Sequence[Any]) -> Iterator[Any]:
    """The items one by one, with a progress bar on a terminal if there are several."""
    console = make_console(errors=True)
    shown = console.is_terminal and len(items) > 1
    with Progress(console=console, transient=True, disable=not shown) as bar:
        yield from bar.track(items)


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Inside, Orbax's threads print no tracebacks: the error that is raised says what theirs
    say.
    """

    def unraisable(info):
        if "Event loop is closed" not in str(info.exc_value):
            hook(info)

    logger = logging.getLogger("absl")
    hook = sys.unraisablehook
    threads = set(threading.enumerate())
    logger.addFilter(_nothing)
    sys.unraisablehook = unraisable
    try:
        yield
    except Exception:
        deadline = time.monotonic() + 3.0  # some of them wait for work for ever
        for thread in set(threading.enumerate()) - threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        time.sleep(0.2)  # for those that are not Python's
        raise
    finally:
        sys.unraisablehook = hook
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    del record
    return False
