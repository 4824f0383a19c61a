"""The configuration of every service: environment variables, read once at start."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from postjournal.config.variables import (
    Environment,
    Secret,
    Variable,
    choice,
    flag,
    number,
    optional,
    optional_flag,
    text,
)
from postjournal.core.errors import ConfigurationError

NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")

BOOTSTRAP = text("POSTJOURNAL_BOOTSTRAP", "localhost:9092", "Kafka's `host:port` list.")
NAMESPACE = text("POSTJOURNAL_NAMESPACE", "ledger", "The prefix of all topics and Redis keys.")
SHARDS = number(
    "POSTJOURNAL_SHARDS",
    *(1, 1, 1000),
    "Partitions of every topic. Must be the same in every service and cannot change later.",
)
REPLICATION = number(
    "POSTJOURNAL_REPLICATION",
    1,
    1,
    100,
    "Replication factor of the topics that Postjournal creates.",
)
FSYNC = optional_flag(
    "POSTJOURNAL_FSYNC",
    "`1`: topics are created so that Kafka writes records to the disk before it acknowledges them.",
    "1 with replication factor 1, otherwise 0",
)
APP = text(
    "POSTJOURNAL_APP", "postjournal.ledger:Ledger", "The application: `package.module:Class`."
)
BIND = text("POSTJOURNAL_BIND", "127.0.0.1", "The address that servers listen on.")
METRICS_PORT = number(
    "POSTJOURNAL_METRICS_PORT",
    *(0, 0, 65535),
    "Port for `/metrics`, `/livez` and `/readyz` of services other than replicas; 0: none.",
)
REDIS_URL = text(
    "POSTJOURNAL_REDIS_URL", "redis://localhost:6379/0", "Redis URL, with the user name if any."
)
REDIS_PASSWORD = Secret("POSTJOURNAL_REDIS_PASSWORD", "Redis password, unless the URL has it.")
LOG_FORMAT = choice(
    "POSTJOURNAL_LOG_FORMAT",
    ("text", "json"),
    "`json`: one object per line, with trace id and command id where there are any.",
)

KAFKA_USERNAME = optional("POSTJOURNAL_KAFKA_USERNAME", "Kafka username.", "no authentication")
KAFKA_PASSWORD = Secret("POSTJOURNAL_KAFKA_PASSWORD", "Kafka password. Required with a username.")
KAFKA_MECHANISM = choice(
    "POSTJOURNAL_KAFKA_MECHANISM",
    ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
    "SASL mechanism, with a username.",
)
KAFKA_PROTOCOL = choice(
    "POSTJOURNAL_KAFKA_PROTOCOL",
    ("SASL_PLAINTEXT", "SASL_SSL"),
    "Security protocol, with a username. `SASL_SSL`: over TLS.",
)
KAFKA_CA_FILE = optional(
    "POSTJOURNAL_KAFKA_CA_FILE",
    "With `SASL_SSL`: file with the CA certificates.",
    "the system's CA certificates",
)

REPLICA = optional("POSTJOURNAL_REPLICA", "Unique replica name.", "the host name")
ADVERTISE = optional(
    "POSTJOURNAL_ADVERTISE",
    "The host at which peers and clients reach this replica.",
    "the host name",
)
HTTP_PORT = number(
    "POSTJOURNAL_HTTP_PORT", 7070, 0, 65535, "Port for health, state, metrics and reads."
)
TRIPWIRE_PORT = number(
    "POSTJOURNAL_TRIPWIRE_PORT",
    *(7071, 0, 65535),
    "Port to which standbys hold a connection; it closes when the leader's process dies.",
)
DEDUPE_WINDOW = number(
    "POSTJOURNAL_DEDUPE_WINDOW",
    *(100_000, 1, 100_000_000),
    "Command ids remembered per shard. Must be the same on all replicas.",
)
READER = flag("POSTJOURNAL_READER", "`1`: follow the journal and answer reads, but never lead.")
READER_UNTIL = optional(
    "POSTJOURNAL_READER_UNTIL",
    "For a reader: stop following at `offset:N`, `seq:N` or `time:TIME`.",
    "never",
)
ALLOW_CRASH = flag("POSTJOURNAL_ALLOW_CRASH", "`1`: the live page may crash replicas.")

SNAPSHOT_URL = optional(
    "POSTJOURNAL_SNAPSHOT_URL",
    "Snapshot store: `s3://BUCKET/PREFIX?endpoint=URL&region=REGION` or `file:///…`.",
    "no snapshots",
)
SNAPSHOT_KEY_ID = Secret(
    "POSTJOURNAL_SNAPSHOT_KEY_ID",
    "S3 access key id; without it `AWS_ACCESS_KEY_ID` and so on, as in every S3 client.",
)
SNAPSHOT_SECRET = Secret("POSTJOURNAL_SNAPSHOT_SECRET", "S3 secret access key.")

COORDINATOR_PORT = number(
    "POSTJOURNAL_COORDINATOR_PORT", 8085, 0, 65535, "Port of the live page and its API."
)
API_TOKEN = Secret(
    "POSTJOURNAL_API_TOKEN",
    "Required as `Authorization: Bearer TOKEN` for requests that change the system or cost much.",
)
EVERY_MINUTES = number(
    "POSTJOURNAL_SNAPSHOT_EVERY_MINUTES",
    *(10, 0, 10**6),
    "Take a snapshot after this many minutes; 0: no limit.",
)
EVERY_COMMANDS = number(
    "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS",
    *(1_000_000, 0, 10**15),
    "Or after this many commands, whichever comes first; 0: no limit.",
)
KEEP = number("POSTJOURNAL_SNAPSHOT_KEEP", 10, 1, 10_000, "Snapshots kept per shard.")
TRIM = flag("POSTJOURNAL_TRIM", "`1`: delete journal records that no kept snapshot needs.")

GATEWAY_PORT = number("POSTJOURNAL_GATEWAY_PORT", 8080, 0, 65535, "Port of the HTTP gateway.")
SINK = choice(
    "SINK",
    ("results", "balances"),
    "The sink that a consumer follows; `balances` writes them to Redis.",
)

AnyVariable = (
    Variable[str]
    | Variable[str | None]
    | Variable[int]
    | Variable[bool]
    | Variable[bool | None]
    | Secret
)

GROUPS: Mapping[str, tuple[AnyVariable, ...]] = {
    "All services": (
        *(BOOTSTRAP, NAMESPACE, SHARDS, REPLICATION, FSYNC, APP, BIND, METRICS_PORT, LOG_FORMAT),
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
"""Service → the variables that it reads; the reference page has the same order."""


@dataclass(frozen=True)
class KafkaAccess:
    """Kafka's `host:port` list and the credentials; without `username` there is no authentication.

    `mechanism`, `protocol` and `ca_file` are librdkafka's sasl.mechanism, security.protocol and
    ssl.ca.location, and count only with a `username`. `repr` leaves the password out.
    """

    bootstrap: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = KAFKA_MECHANISM.default
    protocol: str = KAFKA_PROTOCOL.default
    ca_file: str | None = None

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> KafkaAccess:
        """Read the variables of `environment`, by default this process's.

        Raises `ConfigurationError` when a value is invalid, or a username has no password.
        """
        bootstrap, username = BOOTSTRAP.read(environment), KAFKA_USERNAME.read(environment)
        if not username:
            return cls(bootstrap)
        password = KAFKA_PASSWORD.read(environment)
        if password is None:
            raise ConfigurationError(
                f"POSTJOURNAL_KAFKA_USERNAME is {username!r}, but there is no password: set "
                "POSTJOURNAL_KAFKA_PASSWORD_FILE to a file that holds it"
            )
        return cls(
            bootstrap,
            username,
            password,
            mechanism=KAFKA_MECHANISM.read(environment),
            protocol=KAFKA_PROTOCOL.read(environment),
            ca_file=KAFKA_CA_FILE.read(environment),
        )

    def at(self, bootstrap: str | None) -> KafkaAccess:
        """The same credentials for the Kafka at `bootstrap`; unchanged when that is None."""
        return self if bootstrap is None else replace(self, bootstrap=bootstrap)


@dataclass(frozen=True)
class RedisAccess:
    """Redis's URL, which names the user if there is one; the password, unless the URL has it.

    `repr` leaves out both, since either may hold the password.
    """

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> RedisAccess:
        """Read the variables of `environment`, by default this process's.

        Raises `ConfigurationError` when the password's file cannot be read.
        """
        return cls(REDIS_URL.read(environment), REDIS_PASSWORD.read(environment))

    @property
    def address(self) -> str:
        """The URL without user, password and options: what may stand in a log line."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()


@dataclass(frozen=True)
class Settings:
    """The settings that services share. Each field is the variable of its name.

    `fsync`: see `TopicPlan`.
    """

    kafka: KafkaAccess
    namespace: str
    shards: int
    replication: int
    fsync: bool
    app: str
    replica: str
    advertise: str
    bind: str
    http_port: int
    tripwire_port: int
    metrics_port: int
    dedupe_window: int
    allow_crash: bool = False
    reader: bool = False
    reader_until: str | None = None

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> Settings:
        """Read the variables of `environment`, by default this process's.

        Raises `ConfigurationError`, which names the variable whose value is invalid.
        """
        host = socket.gethostname()
        replication, fsync = REPLICATION.read(environment), FSYNC.read(environment)
        return cls(
            kafka=KafkaAccess.from_environment(environment),
            namespace=_name(NAMESPACE, NAMESPACE.read(environment)),
            shards=SHARDS.read(environment),
            replication=replication,
            fsync=replication == 1 if fsync is None else fsync,
            app=APP.read(environment),
            replica=_name(REPLICA, REPLICA.read(environment) or host),
            advertise=ADVERTISE.read(environment) or host,
            bind=BIND.read(environment),
            http_port=HTTP_PORT.read(environment),
            tripwire_port=TRIPWIRE_PORT.read(environment),
            metrics_port=METRICS_PORT.read(environment),
            dedupe_window=DEDUPE_WINDOW.read(environment),
            allow_crash=ALLOW_CRASH.read(environment),
            reader=READER.read(environment),
            reader_until=READER_UNTIL.read(environment),
        )


def _name(variable: AnyVariable, value: str) -> str:
    if not NAME.fullmatch(value):
        raise ConfigurationError(f"{variable.name}={value!r}: use 1-100 of a-z A-Z 0-9 . _ -")
    return value


@dataclass(frozen=True)
class StoreSettings:
    """The snapshot store's URL and credentials."""

    url: str
    key_id: str | None
    secret: str | None = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> StoreSettings | None:
        """Read the variables of `environment`, by default this process's.

        None when there is no URL: then there are no snapshots. Raises `ConfigurationError`.
        """
        url = SNAPSHOT_URL.read(environment)
        if not url:
            return None
        return cls(url, SNAPSHOT_KEY_ID.read(environment), SNAPSHOT_SECRET.read(environment))


@dataclass(frozen=True)
class CoordinatorSettings:
    """The coordinator's own settings; 0 turns a limit off."""

    port: int
    token: str | None = field(repr=False)
    every_minutes: int
    every_commands: int
    keep: int
    trim: bool

    @classmethod
    def from_environment(cls, environment: Environment | None = None) -> CoordinatorSettings:
        """Read the variables of `environment`, by default this process's.

        Raises `ConfigurationError`, which names the variable whose value is invalid.
        """
        return cls(
            port=COORDINATOR_PORT.read(environment),
            token=API_TOKEN.read(environment),
            every_minutes=EVERY_MINUTES.read(environment),
            every_commands=EVERY_COMMANDS.read(environment),
            keep=KEEP.read(environment),
            trim=TRIM.read(environment),
        )
