"""The topic names of a namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from postjournal.core.sharding import DEFAULT_KEY, shard_of
from postjournal.core.state.state_machine import DEADLETTER

__all__ = ["DEADLETTER", "DEFAULT_KEY", "Topics", "shard_of"]


@dataclass(frozen=True)
class Topics:
    """The topics of one namespace. `sources` and `sinks`: names without the namespace."""

    namespace: str
    sources: tuple[str, ...]
    sinks: tuple[str, ...]

    @classmethod
    def of(cls, namespace: str, sources: Iterable[str], sinks: Iterable[str]) -> Topics:
        """The topics of an application; the dead-letter sink is added as the last one."""
        return cls(namespace, tuple(sources), (*sinks, DEADLETTER))

    def topic(self, name: str) -> str:
        """The full name of the topic with the short name `name`."""
        return f"{self.namespace}.{name}"

    @property
    def journal(self) -> str:
        """The journal topic; each partition is the journal of one shard."""
        return self.topic("journal")

    @property
    def control(self) -> str:
        """The topic of requests to replicas; see `postjournal.cluster.status.ControlRecord`."""
        return self.topic("control")

    @property
    def status(self) -> str:
        """The topic of what replicas report; see `postjournal.cluster.status.StatusRecord`."""
        return self.topic("status")

    @property
    def source_topics(self) -> tuple[str, ...]:
        """Full names in the application's order."""
        return tuple(self.topic(name) for name in self.sources)

    @property
    def sink_topics(self) -> dict[str, str]:
        """Sink → full topic name."""
        return {name: self.topic(name) for name in self.sinks}

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic that the system creates and checks."""
        return (
            *self.source_topics,
            self.journal,
            *self.sink_topics.values(),
            self.control,
            self.status,
        )
