"""The gateway's metrics, in the Prometheus client's terms."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.monitoring import process_registry

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One set for each gateway, so that tests do not share them."""

    def __init__(self) -> None:
        """Registers everything in a registry of its own."""
        self.registry = process_registry()
        self.requests = Counter(
            "postjournal_gateway_requests_total",
            "HTTP requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "postjournal_gateway_request_duration_seconds",
            "Time from a request's arrival in the handler to its response.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.append_seconds = Histogram(
            "postjournal_gateway_append_duration_seconds",
            "Time until Kafka acknowledged a request's commands, or did not.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.commands = Counter(
            "postjournal_gateway_commands_total",
            "Commands by what became of them on their way into Kafka.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in ("accepted", "not_accepted", "unknown"):
            self.commands.labels(outcome)  # a series that begins with its first event hides it
        self.waiting = Gauge(
            "postjournal_gateway_waiting_requests",
            "Requests that wait for a result.",
            registry=self.registry,
        )
        self.unacknowledged = Gauge(
            "postjournal_gateway_unacknowledged_commands",
            "Commands handed to Kafka's client and not yet acknowledged.",
            registry=self.registry,
        )
        self.kafka_up = Gauge(
            "postjournal_gateway_kafka_up",
            "1 while commands can be appended, else 0.",
            registry=self.registry,
        )
