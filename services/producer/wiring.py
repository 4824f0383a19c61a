"""A gateway on the real Kafka: the one place where its parts are put together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flask import Flask
from prometheus_client import CollectorRegistry

from postjournal.adapters.kafka.topic_reader import TopicReader, back, end
from postjournal.app import load_application
from postjournal.cluster.query_client import QueryClient
from postjournal.cluster.topics import Topics
from postjournal.config.settings import Settings
from services import asyncapi
from services.producer.app import Gateway, make_app
from services.producer.directory import LOOK_BACK, StatusDirectory
from services.producer.kafka_commands import KafkaCommandLog
from services.producer.kafka_results import NoResults, ResultFollower
from services.producer.metrics import Metrics
from services.producer.openapi import document
from services.server import Halt

COMMANDS, RESULTS = "commands", "results"


@dataclass(frozen=True)
class Running:
    """A gateway and what is to be closed after it."""

    gateway: Gateway
    commands: KafkaCommandLog
    results: ResultFollower | NoResults
    directory: StatusDirectory

    @property
    def app(self) -> Flask:
        """See `server.Running`."""
        return make_app(self.gateway)

    @property
    def registry(self) -> CollectorRegistry:
        """See `server.Running`."""
        return self.gateway.metrics.registry

    @property
    def unavailable_reason(self) -> str | None:
        """See `server.Running`."""
        return self.gateway.unavailable_reason

    def release_waiting(self) -> None:
        """Requests that wait for a result are answered without it, now."""
        self.results.release_all()

    def close(self) -> None:
        """End all threads, at once: without Kafka each takes a second or two."""
        parts = (self.results, self.directory, self.commands)
        with ThreadPoolExecutor(len(parts)) as pool:
            for closed in [pool.submit(part.close) for part in parts]:
                closed.result()


def start(settings: Settings, halt: Halt) -> Running:
    """Threads and Kafka clients included, so call it after any fork.

    `halt` is called, by a thread, with a configuration error. Raises `ConfigurationError`; never
    because Kafka is unavailable.
    """
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    metrics = Metrics()
    commands = KafkaCommandLog(
        settings.kafka, topics.topic(COMMANDS), settings.shards, metrics, halt
    )
    results: ResultFollower | NoResults = NoResults()
    if RESULTS in topics.sinks:
        topic = TopicReader(settings.kafka, topics.topic(RESULTS), settings.shards, end)
        results = ResultFollower(topic, metrics, halt)
    statuses = TopicReader(settings.kafka, topics.status, settings.shards, back(LOOK_BACK))
    directory = StatusDirectory(statuses, halt)
    gateway = Gateway(
        commands=commands,
        results=results,
        directory=directory,
        replicas=QueryClient(),
        command_type=application.command_type,
        shards=settings.shards,
        metrics=metrics,
        openapi=document(application.command_type),
        asyncapi=asyncapi.document(application, settings.namespace, settings.shards),
    )
    return Running(gateway, commands, results, directory)
