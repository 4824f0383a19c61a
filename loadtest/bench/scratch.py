"""Topics that exist for a moment only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.bench_system import Stage
from postjournal.adapters.kafka import settings as kafka_settings
from postjournal.adapters.kafka.admin import create_topic, delete_topic
from postjournal.adapters.kafka.client import make_admin


@contextmanager
def scratch_topic(stage: Stage, name: str) -> Iterator[str]:
    """A fresh topic with one partition, deleted at the end."""
    topic = stage.topics.topic(f"{name}-{uuid.uuid4().hex[:8]}")
    admin = make_admin(kafka_settings.admin(stage.kafka))
    create_topic(admin, topic)
    try:
        yield topic
    finally:
        delete_topic(admin, topic)
