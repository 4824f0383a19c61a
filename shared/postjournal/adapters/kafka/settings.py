"""Every librdkafka setting that Postjournal uses, each with its reason, in one place.

Names and defaults: librdkafka's CONFIGURATION.md (2.16). What is not set here is the default on
purpose. Times are in ms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from postjournal.config import settings
from postjournal.core.errors import ConfigurationError

Config = dict[str, Any]


def security(environment: Mapping[str, str] = os.environ) -> Config:
    """How this process proves to Kafka who it is; {} where nobody asks.

    Raises `ConfigurationError`.
    """
    username = settings.KAFKA_USERNAME.read(environment)
    if not username:
        return {}
    password = settings.KAFKA_PASSWORD.read(environment)
    if password is None:
        raise ConfigurationError(
            f"POSTJOURNAL_KAFKA_USERNAME is {username!r}, but there is no password: set "
            "POSTJOURNAL_KAFKA_PASSWORD_FILE to a file that holds it"
        )
    authorities = settings.KAFKA_CA_FILE.read(environment)
    return {
        "security.protocol": settings.KAFKA_PROTOCOL.read(environment),
        "sasl.mechanism": settings.KAFKA_MECHANISM.read(environment),
        "sasl.username": username,
        "sasl.password": password,
    } | ({"ssl.ca.location": authorities} if authorities else {})


def _client(bootstrap: str) -> Config:
    return security() | {
        "bootstrap.servers": bootstrap,
        # A broker that restarts is back within seconds: try again soon, never give up for long
        # (default 10,000). First attempts come after `reconnect.backoff.ms`.
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 250,
        # Every request is small and somebody waits for it.
        "socket.nagle.disable": True,
        # A dead peer must not hold requests for a minute (default 60,000).
        "socket.timeout.ms": 10_000,
        # Requests to a broker that does not answer connect attempts (default 30,000).
        "socket.connection.setup.timeout.ms": 3_000,
        # Look for a topic that has just been created often (default 100) but not for ever fast.
        "topic.metadata.refresh.fast.interval.ms": 50,
        # Our topics are created by us, with the right settings, or not at all.
        "allow.auto.create.topics": False,
        # librdkafka's own lines: only what an operator must see.
        "log.connection.close": False,
    }


def admin(bootstrap: str) -> Config:
    """Topics, users and rights; and whether Kafka is there at all."""
    return _client(bootstrap) | {"log_level": 2}


def _producer(bootstrap: str) -> Config:
    return _client(bootstrap) | {
        # Only what all in-sync replicas hold is acknowledged.
        "acks": "all",
        # Somebody waits for every record: never wait for company. Under load, records that pile
        # up behind requests in flight are batched all the same.
        "linger.ms": 0,
        # Retry soon: the usual fault is a broker that restarts.
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 250,
    }


def journal_producer(bootstrap: str) -> Config:
    """Entries, heartbeats, resignations of a leader."""
    return _producer(bootstrap) | {
        # Keeps the order of a pipeline over retries; a reordered entry would end a leadership.
        "enable.idempotence": True,
        # A broker may be away for a while; giving up sooner would change the leader for nothing.
        # A zombie's late append is void, so waiting long is safe.
        "message.timeout.ms": 120_000,
        # An entry is one record; it holds up to 2,000 commands.
        "message.max.bytes": 8_000_000,
        "max.in.flight.requests.per.connection": 5,
        # Entries are JSON with much repetition; lz4 costs little and halves what is written.
        "compression.type": "lz4",
        # One record is a whole batch already; more per request only adds latency.
        "batch.size": 1_000_000,
    }


def claim_producer(bootstrap: str) -> Config:
    """Claims: worth something only now."""
    return _producer(bootstrap) | {
        "enable.idempotence": False,
        # A claim that is late is void or, worse, deposes a leader that has recovered.
        "message.timeout.ms": 300,
        "message.send.max.retries": 0,
    }


def sink_producer(bootstrap: str) -> Config:
    """Outputs: in order, without gaps, whatever it takes."""
    return _producer(bootstrap) | {
        "enable.idempotence": True,
        # Never give up on a record: a record left out would be a gap for every subscriber.
        "message.timeout.ms": 0,
        # No later record may overtake a failed one.
        "enable.gapless.guarantee": True,
        # While one request is in flight the next one fills: without lingering, hundreds of
        # records a request under load, and one record a request when there is only one.
        "max.in.flight.requests.per.connection": 1,
        "compression.type": "lz4",
        "batch.size": 1_000_000,
        # A sink whose next record is never taken stands still for ever: as much as an entry may
        # have. The broker's bound is kafka_admin's.
        "message.max.bytes": 8_000_000,
        "batch.num.messages": 10_000,
        # The leader bounds what is unacknowledged; this must never be the bound that is hit.
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
    }


def gateway_producer(bootstrap: str) -> Config:
    """Commands on their way in; a client waits for the acknowledgement."""
    return _producer(bootstrap) | {
        "enable.idempotence": True,
        # A client waits; after this long it is told that the outcome is unknown.
        "message.timeout.ms": 5_000,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 200_000,
    }


def control_producer(bootstrap: str) -> Config:
    """Control and status records: small, seldom, of no use when late."""
    return _producer(bootstrap) | {"enable.idempotence": False, "message.timeout.ms": 5_000}


def _consumer(bootstrap: str) -> Config:
    return _client(bootstrap) | {
        # Positions are ours; nothing is committed behind our back.
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A position that the log no longer has is an error to be told, never a jump.
        "auto.offset.reset": "error",
        # Kafka transactions are not used; read what is there.
        "isolation.level": "read_uncommitted",
        # Answer a fetch as soon as there is one byte; hold it at most this long when there is none.
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 500,
        # After a full queue or an error, fetch again at once (defaults 1,000 and 500).
        "fetch.queue.backoff.ms": 1,
        "fetch.error.backoff.ms": 20,
        # Never a rebalance on the path: partitions are assigned by hand.
        "group.id": "postjournal-unused",
    }


def engine_consumer(bootstrap: str) -> Config:
    """The one consumer of a shard: journal, sources and control together."""
    return _consumer(bootstrap) | {
        # Records waiting in the queue stand before the journal's next; keep the queue short
        # enough that a read-back is not late by more than some ms, long enough to stay busy.
        "queued.min.messages": 4_000,
        "queued.max.messages.kbytes": 65_536,
        "max.partition.fetch.bytes": 1_048_576,
        "check.crcs": True,
    }


def tail_consumer(bootstrap: str) -> Config:
    """Reads the last record of each sink at a takeover."""
    return _consumer(bootstrap) | {
        # A fetch that found nothing must not hold up the next one; there is none while the
        # partitions are paused.
        "fetch.wait.max.ms": 1,
        "max.partition.fetch.bytes": 65_536,
    }


def follower_consumer(bootstrap: str) -> Config:
    """Follows a topic by hand-assigned partitions: views, waiting requests, benches."""
    return _consumer(bootstrap) | {"auto.offset.reset": "latest"}


def audit_consumer(bootstrap: str) -> Config:
    """Reads one partition from end to end, as fast as it goes, in bounded memory."""
    return _consumer(bootstrap) | {
        "check.crcs": True,
        # Fetch ahead while records are being checked; this is the memory of a reader, some 20 MB
        # when what is fetched unpacks to ten times its size. More is not faster.
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 8_192,
        "max.partition.fetch.bytes": 524_288,
        # Kafka's transaction markers take offsets: only the broker can say that there is no more.
        "enable.partition.eof": True,
    }


def subscriber_consumer(bootstrap: str, group: str) -> Config:
    """A member of a consumer group that stores its positions in Kafka."""
    return _consumer(bootstrap) | {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
    }
