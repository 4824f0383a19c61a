"""A busy engine's thread has a higher priority, and no other thread has."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from postjournal.adapters.process.thread_priority import NICE

if sys.platform != "linux":
    pytest.skip("threads have a niceness of their own on Linux only", allow_module_level=True)

ASK = """
import json, os, resource, sys, threading
from confluent_kafka import Producer
from postjournal.adapters.process.thread_priority import ThreadPriority

seen = {}

def niceness():
    return os.getpriority(os.PRIO_PROCESS, 0)

def started():
    seen["started"] = niceness()

def engine():
    priority = ThreadPriority()
    seen["allowed"], seen["idle"] = priority.is_allowed, niceness()
    priority.switch(on=True)
    seen["busy"] = niceness()
    thread = threading.Thread(target=started)
    thread.start()
    thread.join()
    before = set(os.listdir("/proc/self/task"))
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    clients = set(os.listdir("/proc/self/task")) - before
    seen["clients"] = sorted({os.getpriority(os.PRIO_PROCESS, int(name)) for name in clients})
    child = os.fork()
    if child == 0:
        os._exit(niceness() + 100)
    priority.switch(on=False)
    seen["idle again"] = niceness()
    seen["forked"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) - 100

if sys.argv[1:] == ["forbidden"]:
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
    if os.geteuid() == 0:
        os.setuid(65_534)
thread = threading.Thread(target=engine)
thread.start()
thread.join()
seen["others"] = niceness()
print(json.dumps(seen))
"""

LOWEST = 20 - NICE
"""What RLIMIT_NICE must be (getrlimit(2))."""


EVERYTHING_ELSE = {
    "idle": 0,
    "idle again": 0,
    "started": 0,
    "clients": [0],
    "forked": 0,
    "others": 0,
}


def ask(*arguments: str) -> dict[str, object]:
    command = [sys.executable, "-c", ASK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


def may_be_raised() -> bool:
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= LOWEST


@pytest.mark.skipif(not may_be_raised(), reason="this user may not raise a thread's priority")
def test_a_busy_engine_has_priority_and_what_it_starts_has_not() -> None:
    assert ask() == {"allowed": True, "busy": NICE} | EVERYTHING_ELSE


def test_where_it_is_not_allowed_priorities_stay_unchanged() -> None:
    assert ask("forbidden") == {"allowed": False, "busy": 0} | EVERYTHING_ELSE
