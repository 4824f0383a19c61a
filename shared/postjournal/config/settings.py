"""The configuration of every service: environment variables, read once at start."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from postjournal.config.variables import Secret, Variable, choice, flag, number, optional, text
from postjournal.core.errors import ConfigurationError

NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")

BOOTSTRAP = text("POSTJOURNAL_BOOTSTRAP", "localhost:9092", "Kafka's `host:port` list.")
NAMESPACE = text("POSTJOURNAL_NAMESPACE", "ledger", "The prefix of all topics and Redis keys.")
SHARDS = number(
    "POSTJOURNAL_SHARDS",
    *(1, 1, 1000),
    "Partitions of every topic. The same everywhere; it cannot change once there is a journal.",
)
REPLICATION = number(
    "POSTJOURNAL_REPLICATION", 1, 1, 100, "Copies that Kafka keeps of topics that are created."
)
APP = text(
    "POSTJOURNAL_APP", "postjournal.ledger:Ledger", "The application: `package.module:Class`."
)
BIND = text("POSTJOURNAL_BIND", "127.0.0.1", "The address that servers listen on.")
METRICS_PORT = number(
    "POSTJOURNAL_METRICS_PORT",
    *(0, 0, 65535),
    "`/metrics`, `/livez` and `/readyz` of services that are no replicas; 0: none.",
)
REDIS_URL = text(
    "POSTJOURNAL_REDIS_URL", "redis://localhost:6379/0", "Of the view and the balances."
)
REDIS_PASSWORD = Secret("POSTJOURNAL_REDIS_PASSWORD", "Unless the URL has it.")
LOG_FORMAT = choice(
    "POSTJOURNAL_LOG_FORMAT",
    ("text", "json"),
    "`json`: one object per line, with the trace and the command's id where there is one.",
)

KAFKA_USERNAME = optional("POSTJOURNAL_KAFKA_USERNAME", "Who this process is to Kafka.", "nobody")
KAFKA_PASSWORD = Secret("POSTJOURNAL_KAFKA_PASSWORD", "Needed with a user.")
KAFKA_MECHANISM = choice(
    "POSTJOURNAL_KAFKA_MECHANISM", ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"), "With a user."
)
KAFKA_PROTOCOL = choice(
    "POSTJOURNAL_KAFKA_PROTOCOL", ("SASL_PLAINTEXT", "SASL_SSL"), "`SASL_SSL`: over TLS."
)
KAFKA_CA_FILE = optional(
    "POSTJOURNAL_KAFKA_CA_FILE", "With `SASL_SSL`: the authorities' certificates.", "the system's"
)

REPLICA = optional(
    "POSTJOURNAL_REPLICA", "The replica's name, which no other has.", "the host's name"
)
ADVERTISE = optional(
    "POSTJOURNAL_ADVERTISE", "The host at which others reach this replica.", "the host's name"
)
HTTP_PORT = number(
    "POSTJOURNAL_HTTP_PORT", 7070, 0, 65535, "Health, state, metrics and reads of a replica."
)
TRIPWIRE_PORT = number(
    "POSTJOURNAL_TRIPWIRE_PORT",
    *(7071, 0, 65535),
    "Standbys hold a connection to the leader's; its end is how they hear of a death.",
)
DEDUPE_WINDOW = number(
    "POSTJOURNAL_DEDUPE_WINDOW",
    *(100_000, 1, 100_000_000),
    "Command ids remembered per shard. The same on all replicas.",
)
READER = flag("POSTJOURNAL_READER", "`1`: follow and answer reads, and never lead.")
READER_UNTIL = optional(
    "POSTJOURNAL_READER_UNTIL",
    "With a reader: stop following at `offset:N`, `seq:N` or `time:TIME`.",
    "never",
)
ALLOW_CRASH = flag("POSTJOURNAL_ALLOW_CRASH", "`1`: the live page may kill replicas.")

SNAPSHOT_URL = optional(
    "POSTJOURNAL_SNAPSHOT_URL",
    "Where snapshots are: `s3://BUCKET/PREFIX?endpoint=URL&region=REGION` or `file:///…`.",
    "no snapshots",
)
SNAPSHOT_KEY_ID = Secret(
    "POSTJOURNAL_SNAPSHOT_KEY_ID", "Without it as every S3 client: `AWS_ACCESS_KEY_ID` and so on."
)
SNAPSHOT_SECRET = Secret("POSTJOURNAL_SNAPSHOT_SECRET", "The key's secret.")

COORDINATOR_PORT = number("POSTJOURNAL_COORDINATOR_PORT", 8085, 0, 65535, "The page and its API.")
API_TOKEN = Secret(
    "POSTJOURNAL_API_TOKEN",
    "`Authorization: Bearer TOKEN` is needed for all that changes the system, or costs much.",
)
EVERY_MINUTES = number(
    "POSTJOURNAL_SNAPSHOT_EVERY_MINUTES", 10, 0, 10**6, "A snapshot after so long; 0: never."
)
EVERY_COMMANDS = number(
    "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS",
    *(1_000_000, 0, 10**15),
    "Or after so many commands, whichever comes first; 0: never.",
)
KEEP = number("POSTJOURNAL_SNAPSHOT_KEEP", 10, 1, 10_000, "Snapshots kept of each shard.")
TRIM = flag("POSTJOURNAL_TRIM", "`1`: delete journal records that no kept snapshot needs.")

GATEWAY_PORT = number("POSTJOURNAL_GATEWAY_PORT", 8080, 0, 65535, "The HTTP gateway.")
SINK = choice(
    "SINK", ("results", "balances"), "Which sink a consumer follows; balances go into Redis."
)

AnyVariable = Variable[str] | Variable[str | None] | Variable[int] | Variable[bool] | Secret

GROUPS: Mapping[str, tuple[AnyVariable, ...]] = {
    "All services": (
        *(BOOTSTRAP, NAMESPACE, SHARDS, REPLICATION, APP, BIND, METRICS_PORT, LOG_FORMAT),
        *(KAFKA_USERNAME, KAFKA_PASSWORD, KAFKA_MECHANISM, KAFKA_PROTOCOL, KAFKA_CA_FILE),
    ),
    "Replica": (
        *(REPLICA, ADVERTISE, HTTP_PORT, TRIPWIRE_PORT, DEDUPE_WINDOW),
        *(READER, READER_UNTIL, ALLOW_CRASH),
    ),
    "Snapshots: replica and coordinator": (SNAPSHOT_URL, SNAPSHOT_KEY_ID, SNAPSHOT_SECRET),
    "Coordinator": (COORDINATOR_PORT, API_TOKEN, EVERY_MINUTES, EVERY_COMMANDS, KEEP, TRIM),
    "Gateway": (GATEWAY_PORT,),
    "Consumer": (SINK,),
    "Redis: consumer of balances, leader-view": (REDIS_URL, REDIS_PASSWORD),
}
"""Who reads what; the order is the reference's."""


@dataclass(frozen=True)
class Settings:
    """What services share; each field is the variable of its name."""

    bootstrap: str
    namespace: str
    shards: int
    replication: int
    app: str
    replica: str
    advertise: str
    bind: str
    http_port: int
    tripwire_port: int
    metrics_port: int
    redis_url: str
    dedupe_window: int
    allow_crash: bool = False
    reader: bool = False
    reader_until: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables; raises `ConfigurationError` naming the one that is wrong."""
        env = os.environ if environment is None else environment
        host = socket.gethostname()
        return cls(
            bootstrap=BOOTSTRAP.read(env),
            namespace=_name(NAMESPACE, NAMESPACE.read(env)),
            shards=SHARDS.read(env),
            replication=REPLICATION.read(env),
            app=APP.read(env),
            replica=_name(REPLICA, REPLICA.read(env) or host),
            advertise=ADVERTISE.read(env) or host,
            bind=BIND.read(env),
            http_port=HTTP_PORT.read(env),
            tripwire_port=TRIPWIRE_PORT.read(env),
            metrics_port=METRICS_PORT.read(env),
            redis_url=REDIS_URL.read(env),
            dedupe_window=DEDUPE_WINDOW.read(env),
            allow_crash=ALLOW_CRASH.read(env),
            reader=READER.read(env),
            reader_until=READER_UNTIL.read(env),
        )


def _name(variable: AnyVariable, value: str) -> str:
    if not NAME.fullmatch(value):
        raise ConfigurationError(f"{variable.name}={value!r}: use 1-100 of a-z A-Z 0-9 . _ -")
    return value


@dataclass(frozen=True)
class StoreSettings:
    """Where snapshots are kept."""

    url: str
    key_id: str | None
    secret: str | None = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> StoreSettings | None:
        """None when there is no URL: then there are no snapshots. Raises `ConfigurationError`."""
        env = os.environ if environment is None else environment
        url = SNAPSHOT_URL.read(env)
        return cls(url, SNAPSHOT_KEY_ID.read(env), SNAPSHOT_SECRET.read(env)) if url else None


@dataclass(frozen=True)
class CoordinatorSettings:
    """What only the coordinator is told; 0 turns a rule off."""

    port: int
    token: str | None = field(repr=False)
    every_minutes: int
    every_commands: int
    keep: int
    trim: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> CoordinatorSettings:
        """Read the variables; raises `ConfigurationError` naming the one that is wrong."""
        env = os.environ if environment is None else environment
        return cls(
            port=COORDINATOR_PORT.read(env),
            token=API_TOKEN.read(env),
            every_minutes=EVERY_MINUTES.read(env),
            every_commands=EVERY_COMMANDS.read(env),
            keep=KEEP.read(env),
            trim=TRIM.read(env),
        )
