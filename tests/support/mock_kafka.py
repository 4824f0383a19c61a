"""librdkafka's mock cluster: a Kafka within this process whose answers a test chooses.

It speaks Kafka's protocol on a port of this machine, so that every client connects to it as to a
broker. It keeps records, offsets and groups in memory, and answers each request of a type with the
errors that were pushed for that type. What it cannot do: topic settings (it accepts records that a
compacted topic refuses), the admin requests, rights of single users, sequence numbers of idempotent
producers (it appends a repeated request twice), and appending a record that it answers with an
error. `fetch.wait.max.ms` is waited for in full when there is no record: keep it short.

The functions are in librdkafka's rdkafka_mock.h, and confluent-kafka does not have them: they are
called through the library itself, with the address of the client that owns the cluster. See
`postjournal.adapters.kafka.notifications`.
"""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, Producer

from postjournal.adapters.kafka.notifications import KNOWN, handle, librdkafka

BROKER = 1
"""The mock cluster numbers its brokers from 1."""

LASTING = 10_000
"""More errors than a test has requests."""


class Request(IntEnum):
    """Types of requests: Kafka's API keys."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    INIT_PRODUCER_ID = 22


_POINTER, _INT, _SHORT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int16, ctypes.c_size_t
_TEXT, _PARTITION = ctypes.c_char_p, ctypes.c_int32

_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "rd_kafka_handle_mock_cluster": ([_POINTER], _POINTER),
    "rd_kafka_mock_cluster_bootstraps": ([_POINTER], _TEXT),
    "rd_kafka_mock_topic_create": ([_POINTER, _TEXT, _INT, _INT], _INT),
    "rd_kafka_mock_topic_set_error": ([_POINTER, _TEXT, _INT], None),
    "rd_kafka_mock_push_request_errors_array": ([_POINTER, _SHORT, _SIZE, _POINTER], None),
    "rd_kafka_mock_clear_request_errors": ([_POINTER, _SHORT], None),
    "rd_kafka_mock_partition_push_request_errors": (
        [_POINTER, _TEXT, _PARTITION, _SHORT, _SIZE, _INT],
        _INT,
    ),
    "rd_kafka_mock_partition_set_leader": ([_POINTER, _TEXT, _PARTITION, _PARTITION], _INT),
    "rd_kafka_mock_broker_set_down": ([_POINTER, _PARTITION], _INT),
    "rd_kafka_mock_broker_set_up": ([_POINTER, _PARTITION], _INT),
    "rd_kafka_mock_broker_set_rtt": ([_POINTER, _PARTITION, _INT], _INT),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": ([_POINTER, _PARTITION], None),
    "rd_kafka_mock_start_request_tracking": ([_POINTER], None),
    "rd_kafka_mock_get_requests": (
        [_POINTER, ctypes.POINTER(_SIZE)],
        ctypes.POINTER(_POINTER),
    ),
    "rd_kafka_mock_request_api_key": ([_POINTER], _SHORT),
    "rd_kafka_mock_request_destroy_array": ([ctypes.POINTER(_POINTER), _SIZE], None),
}


def unsupported_reason() -> str | None:
    """Why there is no mock cluster with the installed confluent-kafka; None when there is."""
    version = str(confluent_kafka.version())
    if not version.startswith(KNOWN):
        return f"confluent-kafka {version}: where it keeps librdkafka's client is not known"
    library = librdkafka()
    missing = [name for name in _SIGNATURES if not hasattr(library, name)]
    return f"librdkafka of confluent-kafka {version} lacks {missing}" if missing else None


class MockKafka:
    """A cluster of one broker, whose topics are those that `create` made. Call `close`."""

    def __init__(self) -> None:
        """Starts the broker on a free port."""
        self._functions: dict[str, Callable[..., Any]] = {}
        library = librdkafka()
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
            self._functions[name] = function
        self._owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        self._cluster = self._functions["rd_kafka_handle_mock_cluster"](handle(self._owner))
        self._call("start_request_tracking")
        self._call("group_initial_rebalance_delay_ms", 0)
        self.address: str = self._call("cluster_bootstraps").decode()
        """The broker's host:port."""

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._functions[f"rd_kafka_mock_{name}"](self._cluster, *arguments)

    def _must(self, name: str, *arguments: Any) -> None:
        """Have the cluster's thread do it, which may miss the wakeup and sleep for a second."""
        is_done = threading.Event()
        threading.Thread(target=self._wake, args=(is_done,), daemon=True).start()
        code = self._call(name, *arguments)
        is_done.set()
        assert code == 0, f"{name}{arguments}: {KafkaError(code).str()}"

    def _wake(self, is_done: threading.Event) -> None:
        host, _, port = self.address.partition(":")
        while not is_done.wait(0.005):
            with suppress(OSError):
                socket.create_connection((host, int(port)), 1.0).close()

    def create(self, *topics: str, partitions: int = 1) -> None:
        for topic in topics:
            self._must("topic_create", topic.encode(), partitions, 1)

    # --- errors -----------------------------------------------------------------------------

    def fail(self, request: Request, *errors: int) -> None:
        """Answer the next requests of this type with `errors`, one after the other.

        `errors`: codes of `KafkaError`; 0: this request succeeds; `KafkaError._TRANSPORT`: the
        broker closes the connection instead. Those of METADATA are ignored but for the last kind:
        see `set_topic_error`.
        """
        array = (ctypes.c_int * len(errors))(*errors)
        self._call("push_request_errors_array", request, len(errors), array)

    def fail_all(self, request: Request, error: int) -> None:
        """Answer all requests of this type with `error`, until `clear`."""
        self.fail(request, *[error] * LASTING)

    def clear(self, request: Request) -> None:
        """Answer requests of this type as usual."""
        self._call("clear_request_errors", request)

    def fail_partition(self, request: Request, topic: str, *errors: int) -> None:
        """As `fail`, for PRODUCE and FETCH of partition 0 of `topic` only; cannot be cleared."""
        for error in errors:
            self._must("partition_push_request_errors", topic.encode(), 0, request, 1, error)

    def set_topic_error(self, topic: str, error: int) -> None:
        """Return `error` for `topic` in the answers to METADATA; 0: none."""
        self._call("topic_set_error", topic.encode(), error)

    def set_leaderless(self, topic: str, is_leaderless: bool) -> None:
        """Partition 0 of `topic` has no leader."""
        leader = -1 if is_leaderless else BROKER
        self._must("partition_set_leader", topic.encode(), 0, leader)

    def set_down(self, is_down: bool) -> None:
        """Close all connections and accept none, or accept them again."""
        self._must("broker_set_down" if is_down else "broker_set_up", BROKER)

    def set_delay(self, delay_ms: int) -> None:
        """Answer each request after this time."""
        self._must("broker_set_rtt", BROKER, delay_ms)

    # --- what was requested -----------------------------------------------------------------

    def requests(self) -> Counter[int]:
        """API key → how many requests have arrived so far."""
        count = ctypes.c_size_t()
        found = self._call("get_requests", ctypes.byref(count))
        try:
            api_key = self._functions["rd_kafka_mock_request_api_key"]
            return Counter(api_key(found[index]) for index in range(count.value))
        finally:
            self._functions["rd_kafka_mock_request_destroy_array"](found, count)

    def close(self) -> None:
        self._owner.close()


def eventually(what: str, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until `condition` holds; it may poll a client."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.002)
