"""What each client does about each class of Kafka's errors: one table, and a test that walks it.

Kafka is librdkafka's mock cluster, which answers any request with any error. What it cannot do is
tested with a real Kafka in `test_kafka_log_errors`: settings of topics, deleted records.

The classes: `retriable`, librdkafka repeats the request; `fatal`, the producer accepts no record
afterwards; `configuration`, the topic refuses the record; `rights`; `unknown`, any other error; and
`connection`. One error stands for each class, several where librdkafka treats them differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import KafkaError

from tests.support.kafka_errors import engine, readers, services
from tests.support.kafka_errors.scene import Row, Scene
from tests.support.mock_kafka import MockKafka, Request, unsupported_reason

pytestmark = pytest.mark.skipif(
    unsupported_reason() is not None, reason=f"no mock cluster: {unsupported_reason()}"
)

PRODUCE, FETCH, LIST_OFFSETS = Request.PRODUCE, Request.FETCH, Request.LIST_OFFSETS
METADATA, INIT_PRODUCER_ID = Request.METADATA, Request.INIT_PRODUCER_ID

Must = Callable[[Scene], None]


def rows(client: str, request: Request | None, *promises: tuple[str, int, Must]) -> list[Row]:
    """`promises`: class, the error that stands for it, and what must happen."""
    return [Row(client, request, kind, error, must) for kind, error, must in promises]


TABLE = [
    # --- the engine's producers ---
    *rows(
        "journal producer",
        PRODUCE,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.append_is_acknowledged_late),
        ("retriable", KafkaError.NOT_ENOUGH_REPLICAS, engine.append_is_acknowledged_late),
        ("retriable", KafkaError.KAFKA_STORAGE_ERROR, engine.append_is_acknowledged_late),
        ("fatal", KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, engine.append_fails),
        ("fatal", KafkaError.INVALID_PRODUCER_EPOCH, engine.append_fails),
        ("configuration", KafkaError.INVALID_RECORD, engine.append_fails),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.append_fails),
        ("unknown", KafkaError.UNKNOWN, engine.append_fails),
        ("connection", KafkaError._TRANSPORT, engine.append_is_acknowledged_late),
    ),
    *rows(
        "journal producer",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, engine.append_is_acknowledged_late),
    ),
    *rows(
        "claims",
        PRODUCE,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.claim_is_lost),
        ("retriable", KafkaError.NOT_ENOUGH_REPLICAS, engine.claim_is_refused),
        ("configuration", KafkaError.INVALID_RECORD, engine.claim_is_refused),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.claim_is_refused),
        ("unknown", KafkaError.UNKNOWN, engine.claim_is_refused),
        ("connection", KafkaError._TRANSPORT, engine.claim_is_lost),
    ),
    *rows("claims", None, ("connection", KafkaError._ALL_BROKERS_DOWN, engine.claim_is_lost)),
    *rows(
        "sinks",
        PRODUCE,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.output_is_published_late),
        ("retriable", KafkaError.REQUEST_TIMED_OUT, engine.output_is_published_late),
        ("fatal", KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, engine.publish_fails_once),
        ("fatal", KafkaError.INVALID_PRODUCER_EPOCH, engine.output_fails_once),
        ("configuration", KafkaError.INVALID_RECORD, engine.publish_fails_once),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.publish_fails_once),
        ("unknown", KafkaError.UNKNOWN, engine.publish_fails_once),
        ("connection", KafkaError._TRANSPORT, engine.output_is_published_late),
    ),
    *rows(
        "sinks",
        INIT_PRODUCER_ID,
        ("retriable", KafkaError.COORDINATOR_LOAD_IN_PROGRESS, engine.renewed_sink_waits),
    ),
    *rows(
        "journal producer and sinks",
        INIT_PRODUCER_ID,
        ("rights", KafkaError.CLUSTER_AUTHORIZATION_FAILED, engine.standby_shows_its_producers),
    ),
    *rows(
        "sinks", None, ("connection", KafkaError._ALL_BROKERS_DOWN, engine.output_is_published_late)
    ),
    # --- the engine's consumers ---
    *rows(
        "journal and sources",
        FETCH,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.fetch_is_repeated),
        ("retriable", KafkaError.KAFKA_STORAGE_ERROR, engine.fetch_is_repeated),
        ("configuration", KafkaError.MSG_SIZE_TOO_LARGE, engine.fetch_error_is_shown),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.fetch_error_is_shown),
        ("unknown", KafkaError.UNKNOWN, engine.fetch_error_is_shown),
        ("connection", KafkaError._TRANSPORT, engine.fetch_is_repeated),
        ("missing", KafkaError.OFFSET_OUT_OF_RANGE, engine.shard_halts),
    ),
    *rows(
        "journal and sources",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, engine.fetch_is_repeated),
    ),
    *rows(
        "control requests",
        FETCH,
        ("missing", KafkaError.OFFSET_OUT_OF_RANGE, engine.control_continues_at_its_end),
    ),
    *rows(
        "journal's end",
        LIST_OFFSETS,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.end_is_unknown),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.end_is_unknown),
        ("unknown", KafkaError.UNKNOWN, engine.end_is_unknown),
    ),
    *rows(
        "tails",
        LIST_OFFSETS,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.tail_is_read_late),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.tail_is_read_late),
        ("unknown", KafkaError.UNKNOWN, engine.tail_is_read_late),
    ),
    *rows(
        "tails",
        FETCH,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, engine.tail_is_read_late),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, engine.tail_is_read_late),
        ("unknown", KafkaError.INVALID_MSG, engine.tail_is_read_late),
    ),
    *rows(
        "tails",
        METADATA,
        (
            "retriable",
            KafkaError.LEADER_NOT_AVAILABLE,
            engine.sink_without_a_leader_holds_up_no_other,
        ),
    ),
    *rows("tails", None, ("connection", KafkaError._ALL_BROKERS_DOWN, engine.tail_is_read_late)),
    # --- the services' producers ---
    *rows(
        "gateway producer",
        PRODUCE,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, services.command_is_accepted_late),
        ("retriable", KafkaError.NOT_ENOUGH_REPLICAS, services.command_is_unknown),
        ("fatal", KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, services.command_is_unknown),
        ("fatal", KafkaError.INVALID_PRODUCER_EPOCH, services.command_is_unknown),
        ("configuration", KafkaError.INVALID_RECORD, services.command_is_not_accepted),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, services.command_is_not_accepted),
        ("unknown", KafkaError.UNKNOWN, services.command_is_unknown),
        ("connection", KafkaError._TRANSPORT, services.command_is_accepted_late),
    ),
    *rows(
        "gateway producer",
        INIT_PRODUCER_ID,
        ("rights", KafkaError.CLUSTER_AUTHORIZATION_FAILED, services.producer_is_renewed_slowly),
    ),
    *rows(
        "gateway producer",
        METADATA,
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, services.commands_are_unavailable),
        ("unknown", KafkaError.UNKNOWN_TOPIC_OR_PART, services.commands_are_unavailable),
    ),
    *rows(
        "gateway producer",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, services.commands_are_unavailable),
    ),
    *rows(
        "control producer",
        PRODUCE,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, services.control_record_is_late),
        ("retriable", KafkaError.REQUEST_TIMED_OUT, services.control_record_fails),
        ("configuration", KafkaError.INVALID_RECORD, services.control_record_fails),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, services.control_record_fails),
        ("unknown", KafkaError.UNKNOWN, services.control_record_fails),
    ),
    *rows(
        "control producer",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, services.control_record_fails),
    ),
    *rows(
        "status producer",
        PRODUCE,
        ("configuration", KafkaError.INVALID_RECORD, services.status_record_is_lost),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, services.status_record_is_lost),
    ),
    # --- readers outside the engine ---
    *rows(
        "topic reader",
        FETCH,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, readers.reading_is_repeated),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, readers.reading_is_interrupted),
        ("unknown", KafkaError.UNKNOWN, readers.reading_is_interrupted),
    ),
    *rows(
        "topic reader",
        LIST_OFFSETS,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, readers.opening_is_repeated),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, readers.opening_is_repeated),
    ),
    *rows(
        "topic reader",
        METADATA,
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, readers.opening_is_repeated),
        ("unknown", KafkaError.UNKNOWN_TOPIC_OR_PART, readers.opening_is_repeated),
    ),
    *rows(
        "topic reader",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, readers.reading_is_interrupted),
    ),
    *rows(
        "results",
        FETCH,
        ("unknown", KafkaError.INVALID_MSG, readers.waiting_request_gets_its_result),
        ("connection", KafkaError._TRANSPORT, readers.waiting_request_gets_its_result),
    ),
    *rows(
        "results",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, readers.waiting_request_gets_its_result),
    ),
    *rows(
        "subscription",
        FETCH,
        ("retriable", KafkaError.KAFKA_STORAGE_ERROR, readers.subscription_is_repeated),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, readers.subscription_is_interrupted),
        ("unknown", KafkaError.UNKNOWN, readers.subscription_is_interrupted),
    ),
    *rows(
        "subscription",
        None,
        ("connection", KafkaError._ALL_BROKERS_DOWN, readers.subscription_is_interrupted),
    ),
    *rows(
        "group member",
        Request.FIND_COORDINATOR,
        ("rights", KafkaError.GROUP_AUTHORIZATION_FAILED, readers.member_starts_late),
    ),
    *rows(
        "group member",
        Request.JOIN_GROUP,
        ("rights", KafkaError.GROUP_AUTHORIZATION_FAILED, readers.member_starts_late),
    ),
    *rows(
        "group member",
        Request.OFFSET_FETCH,
        ("rights", KafkaError.GROUP_AUTHORIZATION_FAILED, readers.member_starts_late),
    ),
    *rows(
        "group member",
        Request.OFFSET_COMMIT,
        ("rights", KafkaError.GROUP_AUTHORIZATION_FAILED, readers.commit_fails),
        ("unknown", KafkaError.UNKNOWN, readers.commit_fails),
    ),
    *rows(
        "journal probe",
        LIST_OFFSETS,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, readers.probe_waits_or_fails),
        ("rights", KafkaError.TOPIC_AUTHORIZATION_FAILED, readers.probe_waits_or_fails),
    ),
    *rows(
        "journal probe",
        FETCH,
        ("unknown", KafkaError.INVALID_MSG, readers.probe_waits_or_fails),
    ),
    *rows(
        "audit",
        FETCH,
        ("retriable", KafkaError.NOT_LEADER_FOR_PARTITION, readers.audit_continues),
        ("unknown", KafkaError.UNKNOWN, readers.audit_continues),
        ("connection", KafkaError._TRANSPORT, readers.audit_continues),
    ),
]


@pytest.fixture
def mock_kafka() -> Iterator[MockKafka]:
    made = MockKafka()
    yield made
    made.close()


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_client_does_what_the_table_promises(
    row: Row,
    mock_kafka: MockKafka,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as stack:
        row.must(Scene(row, mock_kafka, caplog, monkeypatch, stack))


def test_every_row_is_there_once_and_describes_what_must_happen() -> None:
    names = [str(row) for row in TABLE]
    assert len(set(names)) == len(names)
    assert all(row.must.__doc__ for row in TABLE)
