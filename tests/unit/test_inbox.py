"""Queries to a replica that may have stopped."""

from __future__ import annotations

from postjournal.adapters.process.inbox import Answer, QueueInbox
from postjournal.adapters.process.wakeup import Wakeup

REFUSED = Answer(None, -1, 0, "not_ready")


def test_a_closed_inbox_refuses_every_query_at_once() -> None:
    inbox = QueueInbox(Wakeup())
    before = inbox.ask({}, linearizable=True)
    inbox.close()
    after = inbox.ask({}, linearizable=False)
    assert [answer.result(0) for answer in (before, after)] == [REFUSED, REFUSED]
    assert inbox.poll() == []


def test_a_cancelled_query_is_dropped() -> None:
    inbox = QueueInbox(Wakeup())
    inbox.ask({}, linearizable=True).cancel()
    inbox.ask_to_stop()
    inbox.close()
    assert inbox.poll() == []
