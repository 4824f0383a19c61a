"""Noticing that a client of Kafka has lost all its brokers for good.

A broker that has just started may answer a metadata request before it knows of any broker.
librdkafka then forgets all brokers, those of `bootstrap.servers` too, and adds the latter again
when the last one is down; two that end in the same moment can each be taken for not the last
(its issue 5301, seen with 2.16). From then on it connects to nobody, with Kafka there. Only a new
client helps.
"""

from __future__ import annotations

import msgspec

from postjournal.adapters.kafka.settings import Config
from postjournal.core.errors import BrokersLost

REPORT_MS = 5_000
"""How often a client tells of its brokers."""

IN_A_ROW = 2
"""Reports without a broker that count: between forgetting and adding there is none as well."""

ADDRESSED = ("configured", "learned")
"""Sources of brokers that have an address of their own (librdkafka's STATISTICS.md)."""


class _Broker(msgspec.Struct):
    source: str


class _Report(msgspec.Struct):
    brokers: dict[str, _Broker]


_decode = msgspec.json.Decoder(_Report).decode


class _Watch:
    def __init__(self) -> None:
        self._without = 0

    def look(self, report: str) -> None:
        brokers = _decode(report).brokers.values()
        if any(each.source in ADDRESSED for each in brokers):
            self._without = 0
            return
        self._without += 1
        if self._without >= IN_A_ROW:
            raise BrokersLost(
                "the client of Kafka has lost all its brokers and finds none again "
                "(librdkafka's issue 5301): a new one is needed"
            )


def watched(config: Config, report_ms: int = REPORT_MS) -> Config:
    """`config` of a client whose `poll`, `consume`, `flush` and `close` raise `BrokersLost`.

    For one that is polled at least now and then: reports that nobody takes pile up.
    """
    return config | {"statistics.interval.ms": report_ms, "stats_cb": _Watch().look}
