"""Signals: the first is noted, the second ends the process at once, one that is ignored stays
ignored.
"""

import os
import signal
import subprocess
import sys
import threading

import pytest

from onejit.algos.host import signals

WAIT = """
import hashlib, sys
from onejit.algos.host import signals
with signals.watched() as stop:
    stop.can_save = sys.argv[1] == "running"
    print("ready", flush=True)
    # As in compiled code, no handler of Python's runs.
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with signals.watched() as stop:
        stop.can_save = True
        assert not stop
        os.kill(os.getpid(), number)
        assert stop.received == [number]
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.watched() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "phase, signals_needed, words", [("running", 2, "the last"), ("compiling", 1, "there was")]
)
def test_a_process_ends_at_once_where_there_is_nothing_to_wait_for(phase, signals_needed, words):
    command = [sys.executable, "-c", WAIT, phase]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        timer = threading.Timer(60, process.kill)
        timer.start()
        assert process.stdout.readline() == "ready\n"
        for i in range(signals_needed):
            process.send_signal(signal.SIGINT)
            if i + 1 < signals_needed:
                assert process.stderr.readline() == "\n"
                assert "stopping at the next border of a chunk" in process.stderr.readline()
        errors = process.stderr.read()
    timer.cancel()
    assert process.returncode == 130
    assert f"stopped at once, {words}" in errors
    assert "Traceback" not in errors
