"""What happens when Kafka does not create a topic."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from postjournal.adapters.kafka import admin as kafka_admin
from postjournal.adapters.kafka.topic_settings import TopicPlan, problems_of, requirements
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
        del resources
        return {}


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_admin, "sleep", lambda _: None)


def ensure(admin: Any, **how: Any) -> None:
    kafka_admin.ensure_topics(admin, TOPICS, TopicPlan(1, 3), **how)


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


# --- settings that are not as they must be -------------------------------------------------------

WRONG = [
    ("commands", "cleanup.policy", "compact", "commands that are not decided yet", True),
    ("commands", "retention.ms", "3600000", "not decided within this time", False),
    ("journal", "retention.ms", "604800000", "records of the journal", True),
    ("journal", "max.message.bytes", "1048588", "entries would be refused", False),
    ("journal", "flush.messages", "9223372036854775807", "a power cut", False),
    ("journal", "min.insync.replicas", "1", "may be lost", False),
    ("journal", "min.insync.replicas", "4", "do not exist", False),
    ("journal", "unclean.leader.election.enable", "true", "would be lost", False),
    ("journal", "message.timestamp.after.max.ms", "1000", "whose clock differs", False),
    ("results", "cleanup.policy", "compact", "refuses outputs", False),
    ("results", "max.message.bytes", "1000", "outputs would be refused", False),
    ("control", "retention.ms", "1000", "miss requests", False),
]


@pytest.mark.parametrize(("topic", "setting", "value", "why", "is_fatal"), WRONG)
def test_a_wrong_setting_is_found_with_its_reason_and_the_command_that_sets_it(
    topic: str, setting: str, value: str, why: str, is_fatal: bool
) -> None:
    name = f"ledger.{topic}"
    required = requirements(TOPICS, TopicPlan(1, 3, fsync=True))[name]
    right = {one.setting: one.value for one in required if one.value is not None}
    assert list(problems_of(name, required, right)) == []
    (problem,) = problems_of(name, required, right | {setting: value})
    assert why in str(problem)
    assert problem.is_fatal == is_fatal
    wanted = problem.fix.rpartition("=")[2]
    assert f"--entity-name {name} --add-config {setting}=" in problem.fix
    assert list(problems_of(name, required, right | {setting: wanted})) == []


def test_what_is_created_has_no_problem() -> None:
    for plan in (TopicPlan(1, 1), TopicPlan(2, 3), TopicPlan(1, 3, fsync=True)):
        for topic, required in requirements(TOPICS, plan).items():
            created = {one.setting: one.value for one in required if one.value is not None}
            assert list(problems_of(topic, required, created)) == []
