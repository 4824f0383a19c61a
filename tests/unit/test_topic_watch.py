"""The coordinator's checks of the topics' settings."""

from __future__ import annotations

import logging

import pytest

from postjournal.adapters.kafka.topic_settings import TopicProblem
from postjournal.core.errors import JournalUnavailable
from services.coordinator.metrics import Metrics
from services.coordinator.topic_watch import TopicWatch

COMPACTED = TopicProblem(
    "ledger.commands", "cleanup.policy", "compact", "delete", "commands would be lost", "a command"
)


class Watched:
    """A watch whose check returns `problems`, or raises if they are None."""

    def __init__(self) -> None:
        self.problems: list[TopicProblem] | None = []
        self.metrics = Metrics()
        self.watch = TopicWatch(self._check, self.metrics)

    def _check(self) -> list[TopicProblem]:
        if self.problems is None:
            raise JournalUnavailable("no answer")
        return self.problems

    def shown(self, topic: str, setting: str) -> float | None:
        labels = {"topic": topic, "setting": setting}
        return self.metrics.registry.get_sample_value("postjournal_topic_problem", labels)


def test_a_problem_is_logged_once_and_shown_until_it_is_solved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched()
    watched.watch.run_once()
    assert watched.shown("all", "unreadable") == 0
    watched.problems = [COMPACTED]
    for _ in range(3):
        watched.watch.run_once()
        assert watched.shown("ledger.commands", "cleanup.policy") == 1
    assert caplog.text.count("ledger.commands has cleanup.policy=compact") == 1
    assert "Fix it with: a command" in caplog.text
    watched.problems = []
    watched.watch.run_once()
    assert watched.shown("ledger.commands", "cleanup.policy") == 0
    assert "ledger.commands: cleanup.policy is as it must be again" in caplog.text


def test_what_cannot_be_checked_is_shown_and_hides_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    watched.problems = [COMPACTED]
    watched.watch.run_once()
    watched.problems = None
    for _ in range(3):
        watched.watch.run_once()
    assert watched.shown("all", "unreadable") == 1
    assert watched.shown("ledger.commands", "cleanup.policy") == 1
    assert caplog.text.count("no answer") == 1
    watched.problems = []
    watched.watch.run_once()
    assert watched.shown("all", "unreadable") == 0
