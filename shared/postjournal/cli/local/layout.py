"""The files of a local system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[4]
"""The checkout: the services' working directory, and by default the parent of `.postjournal`."""

DEFAULT_DIRECTORY = PROJECT_ROOT / ".postjournal"


@dataclass(frozen=True)
class Layout:
    """The files of the system in `directory`. Only those in `data` outlive a restart."""

    directory: Path

    @property
    def data(self) -> Path:
        """Data of Kafka and Redis, and snapshots."""
        return self.directory / "data"

    @property
    def kafka_data(self) -> Path:
        """Kafka's log directory, which contains the journal."""
        return self.data / "kafka"

    @property
    def redis_data(self) -> Path:
        """Redis' working directory; it is configured to write nothing."""
        return self.data / "redis"

    @property
    def snapshots(self) -> Path:
        """The snapshot store, unless POSTJOURNAL_SNAPSHOT_URL names another."""
        return self.data / "snapshots"

    @property
    def logs(self) -> Path:
        """`NAME.log` of each service."""
        return self.directory / "log"

    @property
    def run(self) -> Path:
        """Configuration, sockets and marks of the running system, generated at each start."""
        return self.directory / "run"

    @property
    def plan(self) -> Path:
        """The record of the running system; missing when it was stopped."""
        return self.run / "system.json"

    @property
    def lock(self) -> Path:
        """The lock that is held while the system starts or stops."""
        return self.directory / "lock"

    @property
    def supervisor_configuration(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def kafka_configuration(self) -> Path:
        return self.run / "server.properties"

    @property
    def redis_configuration(self) -> Path:
        return self.run / "redis.conf"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def log_names(self) -> list[str]:
        """Return the names of the services that have a log, sorted."""
        return sorted(path.stem for path in self.logs.glob("*.log"))

    def started_mark(self, name: str) -> Path:
        """A file that exists once the service was started: the next start is a restart."""
        return self.run / f"{name}.started"

    def create(self) -> None:
        """Create the missing directories."""
        for directory in (self.kafka_data, self.redis_data, self.snapshots, self.logs, self.run):
            directory.mkdir(parents=True, exist_ok=True)
