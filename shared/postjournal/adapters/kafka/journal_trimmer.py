"""Deleting the beginning of a journal partition: Kafka's DeleteRecords."""

from __future__ import annotations

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.core.errors import JournalUnavailable

ANSWER_S = 10.0


class JournalTrimmer:
    """Safe to use from many threads. What it deletes is gone for ever."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connects to nobody yet."""
        self._topic = topic
        self._settings = kafka_settings.admin(bootstrap) | {"log_level": 0}

    def trim(self, shard: int, before: int) -> None:
        """Delete the records with offsets below `before`. Raises `JournalUnavailable`."""
        place = TopicPartition(self._topic, shard, before)
        admin = AdminClient(self._settings)
        try:
            answers = admin.delete_records([place], request_timeout=ANSWER_S)
            answers[place].result(ANSWER_S)
        except (KafkaException, TimeoutError) as error:
            raise JournalUnavailable(f"{self._topic}/{shard} is not trimmed: {error}") from error
