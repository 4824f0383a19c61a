"""A service's process as a whole."""

from __future__ import annotations

import subprocess
import sys

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
