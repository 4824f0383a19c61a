"""A service's process as a whole."""

from __future__ import annotations

import subprocess
import sys

from postjournal.adapters.process.pulse import Pulse, forgive, hung_threads, lost_pulses

FAILING = """
import threading, time
from services.process import run

def fail():
    raise KeyError("planted")

def main():
    threading.Thread(target=fail, name="worker").start()
    time.sleep(60)

run(main)
"""


def test_a_process_ends_with_any_of_its_threads_and_logs_why() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "CRITICAL services.process: the thread worker has failed" in done.stderr
    assert "KeyError: 'planted'" in done.stderr


HANGING = """
import threading, time
from postjournal.adapters.process.pulse import Pulse
from services.process import exit_when_a_thread_hangs, run

def hang():
    with Pulse("worker", 1.0):
        threading.Event().wait()

def turn():
    with Pulse("other", 1.0) as pulse:
        while True:
            time.sleep(0.1)
            pulse.beat()

def main():
    for work in (hang, turn):
        threading.Thread(target=work, daemon=True).start()
    exit_when_a_thread_hangs()
    time.sleep(60)

run(main)
"""


def test_a_process_ends_with_a_thread_that_hangs_and_logs_where() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert "CRITICAL services.process: the thread worker hangs for" in done.stderr
    assert "the thread other" not in done.stderr
    assert "in hang" in done.stderr


def test_a_process_that_was_stopped_as_a_whole_goes_on() -> None:
    with Pulse("worker", 0.0) as pulse:
        assert "the thread worker hangs" in str(hung_threads())
        pulse._limit_s = 60.0
        pulse._beat_s -= 100.0
        assert pulse in lost_pulses()
        forgive()
        assert hung_threads() is None
    assert lost_pulses() == []
