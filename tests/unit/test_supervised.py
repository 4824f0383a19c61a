"""A process that a replica keeps running: how its end is noticed, explained and repaired."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.replica import messages as m
from services.replica import supervised
from services.replica.child import End
from services.replica.supervised import Supervised

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="death locks are Linux's")


class Owner:
    """Notes what happens; waits for deaths as an engine's owner does."""

    def __init__(self, behavior: str) -> None:
        command = ("tests.support.supervised_child", behavior)
        self.process = Supervised("shard 0", command, m.FromEngine, self)
        self.events: list[str] = []
        self.ends: list[End] = []

    def on_started(self) -> None:
        self.events.append("started")

    def on_message(self, message: Any) -> None:
        self.events.append("begun")
        self.process.await_death()

    def on_dead(self) -> None:
        self.events.append("dead")

    def on_ended(self, end: End) -> None:
        self.events.append("ended")
        self.ends.append(end)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)


def run(behavior: str, test: Callable[[Owner], Awaitable[None]]) -> None:
    async def supervise() -> None:
        owner = Owner(behavior)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, owner.process.reap)
        owner.process.start()
        await test(owner)
        owner.process.is_stopping = True
        owner.process.kill()
        await owner.until(lambda: owner.process.pid is None)

    asyncio.run(supervise())


def test_a_killed_process_is_dead_once_and_another_one_is_started() -> None:
    async def test(owner: Owner) -> None:
        await owner.until(lambda: owner.events.count("begun") == 2)
        assert sum("death of" in thread.name for thread in threading.enumerate()) == 1
        first = owner.process.pid
        owner.process.kill()
        await owner.until(lambda: owner.events.count("begun") == 4)
        assert owner.events[:5] == ["started", "begun", "begun", "dead", "ended"]
        assert owner.process.pid != first
        assert owner.process.ends == {"SIGKILL": 1}
        assert str(owner.process.last_end).startswith("killed by SIGKILL, at most ")

    run("runs", test)


def test_the_last_words_and_the_exit_code_explain_an_end() -> None:
    async def test(owner: Owner) -> None:
        await owner.until(lambda: len(owner.ends) == 2)
        assert [end.cause for end in owner.ends] == ["exit_3"] * 2
        assert owner.ends[0].text.endswith("MiB: no disk")

    run("fails", test)


def test_the_record_that_a_process_was_applying_outlives_it() -> None:
    async def test(owner: Owner) -> None:
        await owner.until(lambda: owner.ends)
        assert owner.ends[0].applying == 17
        assert "MiB: overflow" in owner.ends[0].text
        assert owner.ends[0].text.endswith("it was applying the journal's record at offset 17")

    run("dies at a record", test)


def test_a_configuration_error_is_left_to_the_owner() -> None:
    async def test(owner: Owner) -> None:
        await owner.until(lambda: owner.ends)
        assert owner.ends[0].code == 78
        assert not owner.process.ends

    run("is misconfigured", test)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_that_is_silent_for_too_long_is_ended(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(supervised, "STUCK_S", 0.0)

    async def test(owner: Owner) -> None:
        await owner.until(lambda: owner.events.count("begun") == 2)
        owner.process.end_if_stuck()
        assert "dead" not in owner.events, "it has not reported yet: it is starting"
        owner.process.reported()
        if stopped:
            assert owner.process.pid is not None
            os.kill(owner.process.pid, signal.SIGSTOP)
        owner.process.end_if_stuck()
        await owner.until(lambda: owner.ends)
        assert owner.process.ends == {"stuck": 1}
        how = "SIGKILL" if stopped else "SIGABRT"
        assert owner.ends[0].text.startswith(f"stuck for 0 s; killed by {how}")
        assert ("in main" in owner.ends[0].text) is not stopped  # its stack trace

    run("runs", test)
