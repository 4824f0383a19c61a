"""Where a local system keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[4]
"""The checkout: services run in it, and `.postjournal` lies in it by default."""

DEFAULT_DIRECTORY = PROJECT_ROOT / ".postjournal"


@dataclass(frozen=True)
class Layout:
    """The files of the system in `directory`. Only `data` matters across restarts."""

    directory: Path

    @property
    def data(self) -> Path:
        """What Kafka and Redis store, and snapshots."""
        return self.directory / "data"

    @property
    def kafka_data(self) -> Path:
        """Kafka's log directory: the journal is in it."""
        return self.data / "kafka"

    @property
    def redis_data(self) -> Path:
        """Redis' working directory; nothing is written to it, by configuration."""
        return self.data / "redis"

    @property
    def snapshots(self) -> Path:
        """Where snapshots are kept, unless POSTJOURNAL_SNAPSHOT_URL says otherwise."""
        return self.data / "snapshots"

    @property
    def logs(self) -> Path:
        """One `NAME.log` per service."""
        return self.directory / "log"

    @property
    def run(self) -> Path:
        """Generated configuration, sockets and marks of the running system."""
        return self.directory / "run"

    @property
    def plan(self) -> Path:
        """The record of the running system; there is none when it was stopped."""
        return self.run / "system.json"

    @property
    def lock(self) -> Path:
        """Held while the system is being started or stopped."""
        return self.directory / "lock"

    @property
    def supervisor_configuration(self) -> Path:
        """Generated at each start."""
        return self.run / "supervisord.conf"

    @property
    def kafka_configuration(self) -> Path:
        """Generated at each start."""
        return self.run / "server.properties"

    @property
    def redis_configuration(self) -> Path:
        """Generated at each start."""
        return self.run / "redis.conf"

    def log(self, name: str) -> Path:
        """The log of the service `name`."""
        return self.logs / f"{name}.log"

    def started_mark(self, name: str) -> Path:
        """Exists once the service `name` was started: the next start is a restart."""
        return self.run / f"{name}.started"

    def create(self) -> None:
        """Make the directories that are missing."""
        for directory in (self.kafka_data, self.redis_data, self.snapshots, self.logs, self.run):
            directory.mkdir(parents=True, exist_ok=True)
