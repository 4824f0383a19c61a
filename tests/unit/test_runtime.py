"""The loop of an engine: when it appends, and when it waits."""

from __future__ import annotations

from collections import deque
from typing import Any
from unittest.mock import Mock

import msgspec

from postjournal.core import messages as m
from postjournal.core.limits import Limits
from postjournal.core.records import SourceRecord
from postjournal.core.replica import Replica
from postjournal.core.roles import Identity
from postjournal.core.sharding import ShardPlace
from postjournal.ledger import Ledger
from postjournal.runtime import MAX_WAIT_MS, Runtime, ShardPorts

FEED = "ledger.feed"


class Log:
    """A journal that accepts every append; `poll` returns the messages that the test puts in."""

    def __init__(self) -> None:
        self.ready: deque[list[m.Message]] = deque()
        self.waited_ms: list[int] = []
        self.appended: list[bytes] = []

    def poll(self, timeout_ms: int) -> list[m.Message]:
        self.waited_ms.append(timeout_ms)
        return self.ready.popleft() if self.ready else []

    def append(self, value: bytes) -> None:
        self.appended.append(value)

    append_claim = append

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def leading(log: Log) -> Runtime:
    """A runtime whose replica leads and has no record in flight."""
    quiet = Mock(poll=list)
    clock = Mock(monotonic_ms=lambda: 1_000, wall_ms=lambda: 1_000)
    runtime = Runtime(
        lambda incarnation: Replica(
            Identity("b", incarnation, "host:1", ShardPlace(0, 1)), Ledger(), Limits()
        ),
        lambda: "b-1",
        ShardPorts(log, quiet, quiet, quiet, clock, Mock()),
    )
    runtime.start()
    log.ready += [[m.Restored(None)], [m.JournalEnd(0)]]
    for _ in range(2):
        runtime.turn()
    for offset in range(2):  # its claim, its first heartbeat
        log.ready.append([m.JournalRecords([(offset, log.appended[offset])])])
        runtime.turn()
    return runtime


def test_an_entry_is_appended_before_the_next_is_decided_without_a_wait() -> None:
    """Otherwise the first entry would be delayed by the decisions of all the others."""
    log = Log()
    runtime = leading(log)
    size = Limits().batch_commands
    opens = [
        msgspec.json.encode({"type": "open", "id": str(n), "account": str(n)})
        for n in range(2 * size)
    ]
    rows: list[SourceRecord] = [(offset, b"main", value) for offset, value in enumerate(opens)]
    log.ready.append([m.SourceRecords(FEED, 1_000, rows)])
    log.waited_ms.clear()
    log.appended.clear()
    for appended in (1, 2, 2):
        runtime.turn()
        assert len(log.appended) == appended
    assert log.waited_ms == [100, 0, MAX_WAIT_MS]


def test_a_leader_that_must_not_go_on_resigns_once() -> None:
    log = Log()
    runtime = leading(log)
    log.appended.clear()
    for _ in range(2):
        runtime.resign()
    assert [msgspec.json.decode(value)["kind"] for value in log.appended] == ["resign"]


def test_a_standby_that_must_not_go_on_appends_nothing() -> None:
    log = Log()
    runtime = leading(log)
    resignation = msgspec.json.encode({"kind": "resign", "epoch": 1, "successor": None})
    log.ready.append([m.JournalRecords([(2, resignation)])])
    runtime.turn()
    log.appended.clear()
    runtime.resign()
    assert log.appended == []
