"""The configuration of every service: environment variables, read once at start."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from postjournal.core.errors import ConfigurationError

NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")


@dataclass(frozen=True)
class Settings:
    """Each field is set by the environment variable that its comment names."""

    bootstrap: str  # POSTJOURNAL_BOOTSTRAP: Kafka's host:port list
    namespace: str  # POSTJOURNAL_NAMESPACE: the topics' prefix
    shards: int  # POSTJOURNAL_SHARDS: partitions of every topic
    replication: int  # POSTJOURNAL_REPLICATION: replication factor of topics that we create
    app: str  # POSTJOURNAL_APP: package.module:Class
    replica: str  # POSTJOURNAL_REPLICA: this replica's name; the host name by default
    advertise: str  # POSTJOURNAL_ADVERTISE: host at which other containers reach this one
    bind: str  # POSTJOURNAL_BIND: address that servers listen on
    http_port: int  # POSTJOURNAL_HTTP_PORT
    tripwire_port: int  # POSTJOURNAL_TRIPWIRE_PORT
    metrics_port: int  # POSTJOURNAL_METRICS_PORT: see services/monitoring.py; 0: none
    redis_url: str  # POSTJOURNAL_REDIS_URL
    dedupe_window: int  # POSTJOURNAL_DEDUPE_WINDOW: command ids remembered per shard
    allow_crash: bool = False  # POSTJOURNAL_ALLOW_CRASH=1: the live page may kill replicas
    reader: bool = False  # POSTJOURNAL_READER=1: follow and answer reads, never claim
    reader_until: str | None = None  # POSTJOURNAL_READER_UNTIL: offset:N, seq:N or time:TIME

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables; raises `ConfigurationError` naming the one that is wrong."""
        env = os.environ if environment is None else environment
        host = socket.gethostname()
        settings = cls(
            bootstrap=env.get("POSTJOURNAL_BOOTSTRAP", "localhost:9092"),
            namespace=env.get("POSTJOURNAL_NAMESPACE", "ledger"),
            shards=_whole_number(env, "POSTJOURNAL_SHARDS", 1, 1, 1000),
            replication=_whole_number(env, "POSTJOURNAL_REPLICATION", 1, 1, 100),
            app=env.get("POSTJOURNAL_APP", "postjournal.ledger:Ledger"),
            replica=env.get("POSTJOURNAL_REPLICA") or host,
            advertise=env.get("POSTJOURNAL_ADVERTISE") or host,
            bind=env.get("POSTJOURNAL_BIND", "127.0.0.1"),
            http_port=_whole_number(env, "POSTJOURNAL_HTTP_PORT", 7070, 0, 65535),
            tripwire_port=_whole_number(env, "POSTJOURNAL_TRIPWIRE_PORT", 7071, 0, 65535),
            metrics_port=_whole_number(env, "POSTJOURNAL_METRICS_PORT", 0, 0, 65535),
            redis_url=env.get("POSTJOURNAL_REDIS_URL", "redis://localhost:6379/0"),
            dedupe_window=_whole_number(env, "POSTJOURNAL_DEDUPE_WINDOW", 100_000, 1, 100_000_000),
            allow_crash=_yes_or_no(env, "POSTJOURNAL_ALLOW_CRASH"),
            reader=_yes_or_no(env, "POSTJOURNAL_READER"),
            reader_until=env.get("POSTJOURNAL_READER_UNTIL") or None,
        )
        for variable, value in (
            ("POSTJOURNAL_NAMESPACE", settings.namespace),
            ("POSTJOURNAL_REPLICA", settings.replica),
        ):
            if not NAME.fullmatch(value):
                raise ConfigurationError(f"{variable}={value!r}: use 1-100 of a-z A-Z 0-9 . _ -")
        return settings


@dataclass(frozen=True)
class StoreSettings:
    """Where snapshots are kept. Secrets can stand in files: variable name + `_FILE`."""

    url: str  # POSTJOURNAL_SNAPSHOT_URL: s3://BUCKET/PREFIX?endpoint=URL&region=REGION or file:///…
    key_id: str | None  # POSTJOURNAL_SNAPSHOT_KEY_ID; without it as every S3 client: AWS_…
    secret: str | None = field(repr=False)  # POSTJOURNAL_SNAPSHOT_SECRET

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> StoreSettings | None:
        """None when there is no URL: then there are no snapshots. Raises `ConfigurationError`."""
        env = os.environ if environment is None else environment
        url = env.get("POSTJOURNAL_SNAPSHOT_URL")
        if not url:
            return None
        return cls(
            url,
            secret(env, "POSTJOURNAL_SNAPSHOT_KEY_ID"),
            secret(env, "POSTJOURNAL_SNAPSHOT_SECRET"),
        )


@dataclass(frozen=True)
class CoordinatorSettings:
    """What only the coordinator is told; 0 turns a rule off."""

    port: int  # POSTJOURNAL_COORDINATOR_PORT
    token: str | None = field(repr=False)  # POSTJOURNAL_API_TOKEN(_FILE): needed for every POST
    every_minutes: int  # POSTJOURNAL_SNAPSHOT_EVERY_MINUTES
    every_commands: int  # POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS: whichever comes first
    keep: int  # POSTJOURNAL_SNAPSHOT_KEEP: this many of each shard
    trim: bool  # POSTJOURNAL_TRIM=1: delete journal records that no kept snapshot needs

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> CoordinatorSettings:
        """Read the variables; raises `ConfigurationError` naming the one that is wrong."""
        env = os.environ if environment is None else environment
        return cls(
            port=_whole_number(env, "POSTJOURNAL_COORDINATOR_PORT", 8085, 0, 65535),
            token=secret(env, "POSTJOURNAL_API_TOKEN"),
            every_minutes=_whole_number(env, "POSTJOURNAL_SNAPSHOT_EVERY_MINUTES", 10, 0, 10**6),
            every_commands=_whole_number(
                env, "POSTJOURNAL_SNAPSHOT_EVERY_COMMANDS", 1_000_000, 0, 10**15
            ),
            keep=_whole_number(env, "POSTJOURNAL_SNAPSHOT_KEEP", 10, 1, 10_000),
            trim=_yes_or_no(env, "POSTJOURNAL_TRIM"),
        )


def _yes_or_no(env: Mapping[str, str], variable: str) -> bool:
    return _whole_number(env, variable, 0, 0, 1) == 1


def secret(env: Mapping[str, str], variable: str) -> str | None:
    """From the variable, or from the file that the variable with `_FILE` at its end names.

    Raises `ConfigurationError` when that file cannot be read.
    """
    path = env.get(f"{variable}_FILE")
    if not path:
        return env.get(variable) or None
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}_FILE={path!r}: {error}") from error


def _whole_number(
    env: Mapping[str, str], variable: str, default: int, lowest: int, highest: int
) -> int:
    text = env.get(variable) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:
        raise ConfigurationError(
            f"{variable}={text!r}: must be a whole number from {lowest} to {highest}"
        )
    return number
