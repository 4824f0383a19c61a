"""What happens when Kafka does not create a topic."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from postjournal.adapters.kafka import admin as kafka_admin
from postjournal.cluster.topics import Topics
from postjournal.core.errors import JournalUnavailable, TopicMismatch

TOPICS = Topics.of("ledger", ("commands",), ("results",))


class Attributes:
    """An object with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes


class Admin:
    """Refuses the journal's topic with each of `errors` in turn, then creates it."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.topics: dict[str, Any] = {}

    def list_topics(self, timeout: float) -> Attributes:
        return Attributes(topics=self.topics)

    def create_topics(self, new: list[Any], operation_timeout: float) -> dict[str, Future[None]]:
        answers: dict[str, Future[None]] = {}
        for topic in (wanted.topic for wanted in new):
            answers[topic] = Future()
            if topic == TOPICS.journal and self.errors:
                error = KafkaError(self.errors.pop(0))
                answers[topic].set_exception(KafkaException(error))
                if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
            else:
                answers[topic].set_result(None)
            assert topic not in self.topics, "requested again"
            self.topics[topic] = Attributes(partitions={0: Attributes(leader=1)})
        return answers

    def describe_configs(self, resources: list[Any]) -> dict[Any, Future[dict[str, Attributes]]]:
        found: Future[dict[str, Attributes]] = Future()
        found.set_result({k: Attributes(value=v) for k, v in kafka_admin.KEEP_FOREVER.items()})
        return dict.fromkeys(resources, found)


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_admin, "sleep", lambda _: None)


def ensure(admin: Any, **how: Any) -> None:
    kafka_admin.ensure_topics(admin, TOPICS, 1, 3, **how)


@pytest.mark.parametrize(
    "error",
    [
        *(KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT),
        *(KafkaError.NOT_CONTROLLER, KafkaError.INVALID_REPLICATION_FACTOR),
    ],
)
def test_transient_errors_are_retried(error: int, caplog: pytest.LogCaptureFixture) -> None:
    admin = Admin(error, error)
    ensure(admin)
    assert set(admin.topics) == set(TOPICS.all)
    assert caplog.text.count("cannot create ledger.journal") == 1


def test_missing_brokers_are_retried_and_the_log_names_the_fix(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ensure(Admin(KafkaError.INVALID_REPLICATION_FACTOR))
    assert "or change POSTJOURNAL_REPLICATION" in caplog.text


def test_another_replica_may_have_created_it() -> None:
    admin = Admin(KafkaError.REQUEST_TIMED_OUT, KafkaError.TOPIC_ALREADY_EXISTS)
    ensure(admin)
    assert set(admin.topics) == set(TOPICS.all)


@pytest.mark.parametrize(
    "error", [KafkaError.POLICY_VIOLATION, KafkaError.TOPIC_AUTHORIZATION_FAILED]
)
def test_what_the_operator_must_change_is_final(error: int) -> None:
    with pytest.raises(TopicMismatch, match=r"cannot create ledger\.journal"):
        ensure(Admin(error))


def test_waiting_ends_with_the_timeout_and_when_the_process_stops() -> None:
    for how in ({"timeout_s": 0.0}, {"is_stopping": lambda: True}):
        with pytest.raises(JournalUnavailable, match=r"cannot create ledger\.journal"):
            ensure(Admin(*[KafkaError._TIMED_OUT] * 9), **how)
