"""Wires a gateway to Kafka and the replicas."""

from __future__ import annotations

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
from services.server import OnFatal, close_all

COMMANDS, RESULTS = "commands", "results"


@dataclass(frozen=True)
class Running:
    """A gateway that runs, with the parts that must be closed: a `server.Running`."""

    gateway: Gateway
    commands: KafkaCommandLog
    results: ResultFollower | NoResults
    directory: StatusDirectory

    @property
    def app(self) -> Flask:
        return make_app(self.gateway)

    @property
    def registry(self) -> CollectorRegistry:
        return self.gateway.metrics.registry

    @property
    def unavailable_reason(self) -> str | None:
        return self.gateway.unavailable_reason

    def release_waiting(self) -> None:
        """Answer requests that wait for a result without it."""
        self.results.release_all()

    def close(self) -> None:
        close_all(self.results, self.directory, self.commands)


def start(settings: Settings, on_fatal: OnFatal) -> Running:
    """Start a gateway, with its threads and Kafka clients: call it after any fork.

    `on_fatal` is called, by a thread, with a configuration error that is detected later. Raises
    `ConfigurationError`, but not because Kafka is unavailable.
    """
    application = load_application(settings.app)
    topics = Topics.of(settings.namespace, application.sources, application.sinks)
    metrics = Metrics()
    commands = KafkaCommandLog(
        settings.kafka, topics.topic(COMMANDS), settings.shards, metrics, on_fatal
    )
    results: ResultFollower | NoResults = NoResults()
    if RESULTS in topics.sinks:
        topic = TopicReader(settings.kafka, topics.topic(RESULTS), settings.shards, end)
        results = ResultFollower(topic, metrics, on_fatal)
    statuses = TopicReader(settings.kafka, topics.status, settings.shards, back(LOOK_BACK))
    directory = StatusDirectory(statuses, on_fatal)
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
