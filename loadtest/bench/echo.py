"""How much of a latency is due to the client itself and to one pass through Kafka."""

from __future__ import annotations

import time
from itertools import count, takewhile

import msgspec

from loadtest.kafka import temporary_topic
from loadtest.system import BenchSystem
from loadtest.workload.commands import SentCommands, Workload
from loadtest.workload.sender import Sender
from loadtest.workload.watcher import Watcher
from postjournal.config.settings import KafkaAccess


class _Identified(msgspec.Struct):
    id: str


def echo_ms(system: BenchSystem, rate: float, seconds: float, warm_up_s: float) -> list[float]:
    """Latencies in ms of the bench's own sender and watcher on one topic, without the engine.

    Of the commands sent after `warm_up_s` seconds of `seconds`.
    """
    with temporary_topic(system.kafka, system.topics.topic("bench-echo")) as topic:
        return _measure(system.kafka, topic, rate, seconds, warm_up_s)


def _measure(
    kafka: KafkaAccess, topic: str, rate: float, seconds: float, warm_up_s: float
) -> list[float]:
    sent, workload = SentCommands("echo"), Workload("echo", seed=1)
    watcher = Watcher(kafka, [topic], 1)
    sender = Sender(kafka, topic, 1, sent)
    end_s = time.monotonic() + seconds
    specs = takewhile(lambda _: time.monotonic() < end_s, (workload.next() for _ in count()))
    sender.start(specs, rate)
    sender.join()
    time.sleep(0.2)
    watcher.close()
    decode = msgspec.json.Decoder(_Identified).decode
    latencies: list[float] = []
    for seen in watcher.take():
        position = sent.position(decode(seen.value).id)
        if position is not None and position >= warm_up_s * rate:
            latencies.append((seen.seen_ns - sender.intended_ns[position]) / 1e6)
    return latencies
