"""The gateway's Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.monitoring import process_registry

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one gateway, in a registry of their own, so that tests do not share them."""

    def __init__(self) -> None:
        self.registry = process_registry()
        self.requests = Counter(
            "postjournal_gateway_requests_total",
            "HTTP requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "postjournal_gateway_request_duration_seconds",
            "Seconds from the start of a request's handler to its response.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.append_seconds = Histogram(
            "postjournal_gateway_append_duration_seconds",
            "Seconds until all outcomes of a request's commands were known.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.commands = Counter(
            "postjournal_gateway_commands_total",
            "Commands sent to Kafka, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        # `increase` does not count the first event of a series that begins with it.
        for outcome in ("accepted", "not_accepted", "unknown"):
            self.commands.labels(outcome)
        self.waiting = Gauge(
            "postjournal_gateway_waiting_requests",
            "Requests that are waiting for a result.",
            registry=self.registry,
        )
        self.unacknowledged = Gauge(
            "postjournal_gateway_unacknowledged_commands",
            "Commands sent to Kafka and not yet acknowledged.",
            registry=self.registry,
        )
        self.kafka_up = Gauge(
            "postjournal_gateway_kafka_up",
            "1 while commands can be appended, else 0.",
            registry=self.registry,
        )
