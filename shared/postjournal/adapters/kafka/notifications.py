"""Notice of a consumer's records without a poll, from librdkafka, which confluent-kafka hides.

librdkafka writes to a descriptor when the queue of a client becomes non-empty
(`rd_kafka_queue_io_event_enable`). To call it takes the address of the client's `rd_kafka_t`, which
confluent-kafka keeps as the first field of its Python object (`Handle` in its confluent_kafka.h).
That is no interface of confluent-kafka: it is used with `KNOWN` releases only, and the caller of
`notify` must poll where it is not.
"""

from __future__ import annotations

import ctypes
import logging
import sys

import confluent_kafka
from confluent_kafka import Consumer, Producer, cimpl

log = logging.getLogger(__name__)

KNOWN = ("2.16.",)
"""Releases of confluent-kafka in which the address was found where it is expected."""

PAYLOAD = b"\0"


def notify(consumer: Consumer, descriptor: int) -> bool:
    """Write a byte to `descriptor` when `consumer` has something to poll after it had nothing.

    `descriptor` is to be non-blocking, and to stay open until the consumer is closed. Returns
    False when this release of confluent-kafka is not `KNOWN`: then nothing is written.
    """
    version = str(confluent_kafka.version())
    if not version.startswith(KNOWN) or sys.implementation.name != "cpython":
        log.warning(
            "confluent-kafka %s is not known to notify (known: %s*); polling instead, which costs "
            "an idle engine some percent of a core",
            *(version, "*, ".join(KNOWN)),
        )
        return False
    library = librdkafka()
    get, enable = library.rd_kafka_queue_get_consumer, library.rd_kafka_queue_io_event_enable
    destroy = library.rd_kafka_queue_destroy
    get.argtypes, get.restype = [ctypes.c_void_p], ctypes.c_void_p
    enable.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    destroy.argtypes = [ctypes.c_void_p]
    queue = get(handle(consumer))
    enable(queue, descriptor, PAYLOAD, len(PAYLOAD))
    destroy(queue)  # only our reference to it
    return True


def librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka is linked to."""
    return ctypes.CDLL(cimpl.__file__)


def handle(client: Consumer | Producer) -> ctypes.c_void_p:
    """The address of the client's `rd_kafka_t`, with a `KNOWN` release."""
    return ctypes.c_void_p.from_address(id(client) + object.__basicsize__)
