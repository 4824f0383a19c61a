"""Queries of the past over HTTP: the responses when a query fails."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from postjournal.config.settings import Settings
from postjournal.core import errors
from postjournal.core.reader import Bound
from postjournal.history.point_in_time import PointInTime, _NoSnapshots
from postjournal.ledger import Ledger
from services.coordinator import past_query as past
from tests.support.coordinator import CoordinatorUnderTest

Ask = Callable[[], TestResponse]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The replay runs in this process."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
        with pytest.raises(SystemExit) as ended:
            past.main(*command[3:])
        return subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue())

    monkeypatch.setattr("subprocess.run", run)
    http = CoordinatorUnderTest(tmp_path).client()
    return lambda: http.get("/api/v1/query?account=a&at=seq:7")


def problem(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    return answer.status_code, answer.json["type"].rpartition(":")[2]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.PointNotReached("later"), (404, "no-such-point")),
        (errors.RecordsMissing("trimmed"), (404, "no-such-point")),
        (errors.JournalUnavailable("Kafka does not answer"), (503, "unavailable")),
        (errors.StoreUnavailable("the store does not answer"), (503, "unavailable")),
        (errors.ShardCountMismatch("POSTJOURNAL_SHARDS"), (500, "replay-failed")),
        (errors.SnapshotMismatch("POSTJOURNAL_DEDUPE_WINDOW"), (500, "replay-failed")),
        (past.QueryFailed("the application's query failed"), (500, "query-failed")),
    ],
)
def test_a_failed_query_is_answered_with_its_problem_type_and_reason(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[int, str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(past, "answer", fail)
    answer = ask()
    assert problem(answer) == expected
    assert answer.json is not None
    assert answer.json["detail"] == str(error)
    assert ("Retry-After" in answer.headers) == (expected[0] == 503)


def test_a_killed_replay_is_a_failure_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, -9, b"", b"")

    monkeypatch.setattr("subprocess.run", run)
    answer = CoordinatorUnderTest(tmp_path).client().get("/api/v1/query?account=a&at=seq:7")
    assert problem(answer) == (500, "replay-failed")
    assert "memory" in answer.text


def test_a_trimmed_journal_without_its_store_is_reported_as_an_unavailable_store() -> None:
    """The store may have the snapshots that replace the trimmed records."""
    trimmed: Any = SimpleNamespace(bounds=lambda: (100, 200))

    def recover(store_error: errors.StoreUnavailable | None) -> None:
        settings = Settings.from_environment({})
        snapshots = _NoSnapshots(store_error)
        PointInTime(settings, "t", 0, Ledger(), trimmed, snapshots).recover(Bound(seq=150))

    with pytest.raises(errors.RecordsMissing):
        recover(None)
    with pytest.raises(errors.StoreUnavailable, match="no answer"):
        recover(errors.StoreUnavailable("no answer"))
