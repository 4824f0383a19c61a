"""The log on a real Kafka, in its own topics."""

from __future__ import annotations

from itertools import count
from uuid import uuid4

import msgspec
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from postjournal.adapters.kafka import admin as kafka_admin
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import JournalTrimmer
from postjournal.adapters.kafka.engine.shard_log import KafkaLog
from postjournal.adapters.kafka.topic_settings import TopicPlan
from postjournal.adapters.process.wakeup import Wakeup
from postjournal.cluster.topics import Topics
from postjournal.config.settings import KafkaAccess
from postjournal.ports import ShardLog
from tests.support.contract.shard_log import SINK, SOURCES, LogUnderTest
from tests.support.topics import retrying_producer

_numbers = count()


class KafkaLogUnderTest:
    """A `LogUnderTest` on a real Kafka."""

    timeout_ms = 60_000
    quiet_ms = 400

    def __init__(self, bootstrap: str, topics: Topics | None = None) -> None:
        """Create new topics unless `topics` is given."""
        self._bootstrap, self._kafka = bootstrap, KafkaAccess(bootstrap)
        self.topics = topics or self._new_topics()
        self._producer = retrying_producer(bootstrap)
        self._others: list[KafkaLogUnderTest] = []
        self.kafka_log = KafkaLog(self._kafka, self.topics, 0, Wakeup())
        self.log: ShardLog = self.kafka_log
        self.log.open_journal(0)

    def _new_topics(self) -> Topics:
        namespace = f"contract-{uuid4().hex[:8]}-{next(_numbers)}"
        topics = Topics.of(namespace, SOURCES, (SINK, "balances"))
        admin = kafka_admin.wait_for_kafka(self._kafka, 60.0)
        kafka_admin.ensure_topics(admin, topics, TopicPlan(shards=1, replication=1))
        return topics

    def topic(self, source: str) -> str:
        return self.topics.topic(source)

    def feed(self, source: str, values: list[bytes]) -> None:
        self.put(self.topic(source), values)

    def put(self, topic: str, values: list[bytes]) -> None:
        """Produce records to any topic."""
        for value in values:
            self._producer.produce(topic, value, key=b"main", partition=0)
        assert self._producer.flush(60) == 0

    def sink_seqs(self) -> list[int]:
        topic = self.topics.sink_topics[SINK]
        settings = kafka_settings.follower_consumer(self._kafka)
        consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
        partition = TopicPartition(topic, 0, 0)
        consumer.assign([partition])
        _, end = consumer.get_watermark_offsets(partition, timeout=60.0, cached=False)
        seqs: list[int] = []
        while len(seqs) < end:
            for message in consumer.consume(end - len(seqs), 0.2):
                assert message.error() is None
                seqs.append(msgspec.json.decode(message.value() or b"")["seq"])
        consumer.close()
        return seqs

    def trim(self, before: int) -> None:
        JournalTrimmer(self._kafka, self.topics.journal).trim(0, before)

    def empty_sink(self) -> None:
        self.empty(self.topics.sink_topics[SINK])

    def trim_sink(self, before: int) -> None:
        JournalTrimmer(self._kafka, self.topics.sink_topics[SINK]).trim(0, before)

    def empty(self, topic: str) -> None:
        """Delete all records of any topic."""
        JournalTrimmer(self._kafka, topic).trim(0, OFFSET_END)

    def another(self) -> LogUnderTest:
        other = KafkaLogUnderTest(self._bootstrap, self.topics)
        self._others.append(other)
        return other

    def close(self) -> None:
        for other in self._others:
            other.close()
        self.kafka_log.close()
