"""Every librdkafka setting that Postjournal uses, each with its reason, in one place.

Names and defaults: librdkafka's CONFIGURATION.md (2.16). Settings that are not listed keep their
default on purpose. Times are in ms.
"""

from __future__ import annotations

from typing import Any

from postjournal.config.settings import KafkaAccess

Config = dict[str, Any]

UNUSED_GROUP = "postjournal-unused"
"""The group id of consumers that assign their partitions themselves and never commit."""


def _security(access: KafkaAccess) -> Config:
    if not access.username:
        return {}
    return {
        "security.protocol": access.protocol,
        "sasl.mechanism": access.mechanism,
        "sasl.username": access.username,
        "sasl.password": access.password,
    } | ({"ssl.ca.location": access.ca_file} if access.ca_file else {})


def _client(access: KafkaAccess) -> Config:
    return _security(access) | {
        "bootstrap.servers": access.bootstrap,
        # A broker that restarts is back within seconds: try again soon, never give up for long
        # (default 10,000). First attempts come after `reconnect.backoff.ms`.
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 250,
        # Every request is small, and a thread waits for its answer.
        "socket.nagle.disable": True,
        # A dead peer must not hold requests for a minute (default 60,000).
        "socket.timeout.ms": 10_000,
        # Requests to a broker that does not answer connect attempts (default 30,000).
        "socket.connection.setup.timeout.ms": 3_000,
        # Look often for a topic that has just been created (default 100).
        "topic.metadata.refresh.fast.interval.ms": 50,
        # Our topics are created by us, with the right settings, or not at all.
        "allow.auto.create.topics": False,
        # librdkafka logs each failed connection attempt; an `Outage` is logged once. Of
        # librdkafka's own lines only the critical ones (syslog level 2) are kept.
        "log_level": 2,
        "log.connection.close": False,
    }


def admin(access: KafkaAccess) -> Config:
    """For clients that manage topics, users and ACLs, or check that Kafka is available."""
    return _client(access)


def _producer(access: KafkaAccess) -> Config:
    return _client(access) | {
        # Only what all in-sync replicas hold is acknowledged.
        "acks": "all",
        # A client waits for every record: never delay one to fill a batch. Under load, records
        # that queue behind requests in flight are batched all the same.
        "linger.ms": 0,
        # Retry soon: the usual fault is a broker that restarts.
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 250,
    }


def journal_producer(access: KafkaAccess) -> Config:
    """For a leader's entries, heartbeats and resignations."""
    return _producer(access) | {
        # Keeps the order of a pipeline over retries; a reordered entry would end a leadership.
        "enable.idempotence": True,
        # A broker may be unavailable for a while; failing sooner would change the leader
        # needlessly. A zombie's late append is void, so a long timeout is safe.
        "message.timeout.ms": 120_000,
        # An entry is one record; it holds up to 2,000 commands.
        "message.max.bytes": 8_000_000,
        "max.in.flight.requests.per.connection": 5,
        # Entries are JSON with much repetition; lz4 costs little and halves what is written.
        "compression.type": "lz4",
        # One record is a whole batch already; more per request only adds latency.
        "batch.size": 1_000_000,
    }


def claim_producer(access: KafkaAccess) -> Config:
    """For claims, which are useless when late."""
    return _producer(access) | {
        "enable.idempotence": False,
        # A claim that is late is void or, worse, deposes a leader that has recovered.
        "message.timeout.ms": 300,
        "message.send.max.retries": 0,
    }


def sink_producer(access: KafkaAccess) -> Config:
    """For outputs, which must arrive in order and without gaps."""
    return _producer(access) | {
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
        # A sink whose next record is refused stops forever, so an output may be as large as an
        # entry. The broker's limit is in `admin.BIG`.
        "message.max.bytes": 8_000_000,
        "batch.num.messages": 10_000,
        # The leader bounds what is unacknowledged; these limits must never be reached.
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
    }


def gateway_producer(access: KafkaAccess) -> Config:
    """For commands; a client waits for the acknowledgement."""
    return _producer(access) | {
        "enable.idempotence": True,
        # A client waits; after this time it gets the answer that the outcome is unknown.
        "message.timeout.ms": 5_000,
        # While one request is in flight the next one fills. A broker that writes each request to
        # the disk would otherwise do so for each command (decision 22).
        "max.in.flight.requests.per.connection": 1,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 200_000,
    }


def control_producer(access: KafkaAccess) -> Config:
    """For control and status records: small, rare, and useless when late."""
    return _producer(access) | {"enable.idempotence": False, "message.timeout.ms": 5_000}


def _consumer(access: KafkaAccess) -> Config:
    return _client(access) | {
        # Positions are ours; librdkafka must not commit any.
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A position that the log no longer has must be reported, never skipped.
        "auto.offset.reset": "error",
        # Kafka transactions are not used.
        "isolation.level": "read_uncommitted",
        # The broker answers a fetch as soon as there is one byte, and after this time at most.
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 500,
        # After a full queue or an error, fetch again at once (defaults 1,000 and 500).
        "fetch.queue.backoff.ms": 1,
        "fetch.error.backoff.ms": 20,
        # Consumers assign their partitions themselves: no rebalance on the path of a record.
        "group.id": UNUSED_GROUP,
    }


def engine_consumer(access: KafkaAccess) -> Config:
    """For the one consumer of a shard, which reads journal, sources and control together."""
    return _consumer(access) | {
        # Records in the queue come before the journal's next: a queue short enough that a
        # read-back is late by some ms at most, and long enough to keep the engine busy.
        "queued.min.messages": 4_000,
        "queued.max.messages.kbytes": 65_536,
        "max.partition.fetch.bytes": 1_048_576,
        "check.crcs": True,
    }


def tail_consumer(access: KafkaAccess) -> Config:
    """For reading single records, as the last one of each sink at a takeover."""
    return _consumer(access) | {
        # A fetch that found nothing must not delay the next one; there is none while the
        # partitions are paused.
        "fetch.wait.max.ms": 1,
        "max.partition.fetch.bytes": 65_536,
    }


def follower_consumer(access: KafkaAccess) -> Config:
    """For following a topic: views, waiting requests, benches."""
    return _consumer(access) | {"auto.offset.reset": "latest"}


def audit_consumer(access: KafkaAccess) -> Config:
    """For reading one partition from end to end, at full speed and in bounded memory."""
    return _consumer(access) | {
        "check.crcs": True,
        # Fetch ahead while records are being checked; this bounds a reader's memory to some
        # 20 MB when fetched records decompress to ten times their size. More is not faster.
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 8_192,
        "max.partition.fetch.bytes": 524_288,
        # Kafka's transaction markers take offsets: only the broker knows that no record follows.
        "enable.partition.eof": True,
    }


def subscriber_consumer(access: KafkaAccess, group: str) -> Config:
    """For a member of a consumer group that stores its positions in Kafka."""
    return _consumer(access) | {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
    }
