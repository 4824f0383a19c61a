"""How much of a latency is the client's own, and one pass through Kafka."""

from __future__ import annotations

import time
from itertools import count, takewhile

import msgspec

from loadtest.bench.scratch import scratch_topic
from loadtest.bench_system import Stage
from loadtest.workload.commands import Book, Mix
from loadtest.workload.sender import Sender
from loadtest.workload.watcher import Watcher
from postjournal.config.settings import KafkaAccess


class _Identified(msgspec.Struct):
    id: str


def echo_ms(stage: Stage, rate: float, seconds: float, warm_up: float) -> list[float]:
    """Latencies of the bench's own sender and watcher on one topic, without the engine.

    In ms, for those sent after `warm_up` seconds of `seconds`.
    """
    with scratch_topic(stage, "bench-echo") as topic:
        return _measure(stage.kafka, topic, rate, seconds, warm_up)


def _measure(
    kafka: KafkaAccess, topic: str, rate: float, seconds: float, warm_up: float
) -> list[float]:
    book, mix = Book("echo"), Mix("echo", seed=1)
    watcher = Watcher(kafka, [topic], 1)
    sender = Sender(kafka, topic, 1, book)
    end_s = time.monotonic() + seconds
    orders = takewhile(lambda _: time.monotonic() < end_s, (mix.next() for _ in count()))
    sender.start(orders, rate)
    sender.join()
    time.sleep(0.2)
    watcher.close()
    decode = msgspec.json.Decoder(_Identified).decode
    latencies: list[float] = []
    for seen in watcher.take():
        position = book.position(decode(seen.value).id)
        if position is not None and position >= warm_up * rate:
            latencies.append((seen.seen_ns - sender.intended_ns[position]) / 1e6)
    return latencies
