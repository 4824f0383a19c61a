"""A query of the past over HTTP: what is answered when there is no answer."""

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
from postjournal.history import point_in_time as pasts
from postjournal.ledger import Ledger
from services.coordinator import past_query as past
from tests.support.coordinator import Setup

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
    http = Setup(tmp_path).client()
    return lambda: http.get("/api/v1/query?account=a&at=seq:7")


def problem(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    return answer.status_code, answer.json["type"].rpartition(":")[2]


@pytest.mark.parametrize(
    ("error", "told"),
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
def test_why_there_is_no_answer_is_told_as_it_is(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, error: Exception, told: tuple[int, str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(past, "answer", fail)
    answer = ask()
    assert problem(answer) == told
    assert answer.json is not None
    assert answer.json["detail"] == str(error)
    assert ("Retry-After" in answer.headers) == (told[0] == 503)


def test_a_replay_that_dies_is_a_failure_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, -9, b"", b"")

    monkeypatch.setattr("subprocess.run", run)
    answer = Setup(tmp_path).client().get("/api/v1/query?account=a&at=seq:7")
    assert problem(answer) == (500, "replay-failed")
    assert "memory" in answer.text


def test_a_trimmed_journal_without_its_store_is_not_called_missing() -> None:
    """The snapshots that stand for what was trimmed may come back with the store."""
    trimmed: Any = SimpleNamespace(bounds=lambda: (100, 200))

    def recover(away: errors.StoreUnavailable | None) -> None:
        settings = Settings.from_environment({})
        snapshots = pasts._NoSnapshots(away)
        pasts.PointInTime(settings, "t", 0, Ledger(), trimmed, snapshots).recover(Bound(seq=150))

    with pytest.raises(errors.RecordsMissing):
        recover(None)
    with pytest.raises(errors.StoreUnavailable, match="no answer"):
        recover(errors.StoreUnavailable("no answer"))
