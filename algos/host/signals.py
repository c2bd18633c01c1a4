"""Signals that ask a run to stop: the first is noted, for the run to save and stop; the second ends
it at once.

A signal's handler in Python runs when the call into compiled code that it interrupts has returned,
and compiling or a long chunk can take minutes. So a thread watches too: it sees the second signal,
or the first one while there is nothing to save, at once, and ends the process without what an
exception would tear down beside running threads.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
)


class Stop:
    """What was asked for.

    Attributes:
      received: numbers of the signals so far.
      can_save: whether a run has begun, so that there is something to save.
    """

    def __init__(self):
        self.received: list[int] = []
        self.can_save = False

    def __bool__(self) -> bool:
        return bool(self.received)


@contextlib.contextmanager
def watched() -> Iterator[Stop]:
    """Inside, SIGHUP, SIGINT and SIGTERM are collected instead of served; ignored ones, as under
    nohup, stay ignored.

    Outside of the main thread, where no handlers can be set, nothing is collected.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    previous_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    previous = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: stop.received.append(number))
    thread = threading.Thread(target=_watch, args=(reading, stop), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(writing)
        thread.join()
        os.close(reading)


def _watch(reading: int, stop: Stop) -> None:
    seen = 0
    while data := os.read(reading, 1):
        if data[0] not in STOPPING:
            continue
        seen += 1
        if seen > 1 or not stop.can_save:
            what = (
                "the last checkpoint stands" if stop.can_save else "there was nothing to save yet"
            )
            with contextlib.suppress(OSError):
                os.write(2, f"\n{Path(sys.argv[0]).name}: stopped at once, {what}\n".encode())
            os._exit(128 + data[0])
        with contextlib.suppress(OSError):
            os.write(
                2, b"\nstopping at the next border of a chunk; a second signal stops at once\n"
            )
