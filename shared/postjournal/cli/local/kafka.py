"""A Kafka broker as a local process: KRaft, one node that is broker and controller."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.ports import HOST
from postjournal.config.variables import process_environment

MIN_JAVA = 17  # for brokers, since Kafka 4.0

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
"""For Java processes: in another locale they cannot open a path that is not ASCII."""


@dataclass(frozen=True)
class ProxiedListener:
    """A further listener of the broker that is reached through a proxy.

    The broker advertises the proxy's port, so that its clients keep using the proxy.
    """

    listener: str
    port: int
    proxy_port: int


def broker_properties(
    data: Path, port: int, controller_port: int, proxied: Sequence[ProxiedListener] = ()
) -> str:
    """Return the broker's server.properties.

    The voters are static: a dynamic quorum would keep the controller's port of the first start.
    """
    plain = f"PLAINTEXT://{HOST}:{port}"
    listeners = [plain, *(f"{proxy.listener}://{HOST}:{proxy.port}" for proxy in proxied)]
    advertised = [plain, *(f"{proxy.listener}://{HOST}:{proxy.proxy_port}" for proxy in proxied)]
    names = ("PLAINTEXT", "CONTROLLER", *(proxy.listener for proxy in proxied))
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join([*listeners, f"CONTROLLER://{HOST}:{controller_port}"]),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in names),
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # The wait for further members delays the first consumer of a group.
        "group.initial.rebalance.delay.ms": "0",
        # Few threads on a machine that all services share: each further thread costs a scheduler
        # switch per wakeup (p50 at 1,000 commands/s: 6.0 ms with 3 and 4, 3.5 ms with 1 and 2).
        "num.network.threads": "1",
        "num.io.threads": "2",
    }
    return "".join(f"{key}={_escape(value)}\n" for key, value in settings.items())


def _escape(value: str) -> str:
    """Escape a value for java.util.Properties: Latin-1, with backslash escapes."""
    units = value.encode("utf-16-be").hex("\n", 2).split()
    return "".join(
        char if " " <= (char := chr(int(unit, 16))) <= "~" and char != "\\" else f"\\u{unit}"
        for unit in units
    )


def check_directory(directory: Path) -> None:
    """Raise `OperationFailed` when Kafka cannot keep its data in `directory`."""
    found = re.search(r"[,\x00-\x1f\ud800-\udfff]", str(directory))
    if found:
        raise OperationFailed(
            f"Kafka cannot store its data in {str(directory)!r}: its configuration allows no path "
            f"with {found[0]!r}. Move it, or the whole checkout, to a path without that character"
        )


def broker_command(libraries: Path, configuration: Path) -> list[str]:
    """Return the broker's command line; it logs to stderr, without its 400 lines of settings."""
    simple_logger = "-Dorg.slf4j.simpleLogger"
    return [
        # A young collection stops every request: 10-27 ms with the serial collector, 100-230 ms
        # with G1 on two cores. The heap has its full size from the start, so it never grows.
        *("java", "-Xms1g", "-Xmx1g", "-Xmn384m", "-XX:+UseSerialGC"),
        *(f"{simple_logger}.showDateTime=true", f"{simple_logger}.dateTimeFormat=HH:mm:ss.SSS"),
        f"{simple_logger}.log.org.apache.kafka.common.config.AbstractConfig=warn",
        *("-cp", f"{libraries}/*", "kafka.Kafka", str(configuration)),
    ]


def format_storage(layout: Layout, libraries: Path) -> None:
    """Format an empty data directory with a cluster id; does nothing to a formatted one."""
    if (layout.kafka_data / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    done = subprocess.run(
        [
            *("java", "-XX:TieredStopAtLevel=1", "-cp", f"{libraries}/*"),
            *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
            # With `=`: an id may begin with a hyphen.
            *(f"--cluster-id={cluster}", "-c", str(layout.kafka_configuration)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=process_environment(ENVIRONMENT),
    )
    if done.returncode != 0:
        raise OperationFailed(f"cannot format Kafka's storage:\n{done.stderr[-1000:]}")


def check_java() -> None:
    """Raise `OperationFailed` unless a Java that can run Kafka is on the PATH."""
    advice = f"Java {MIN_JAVA} or later must be on the PATH to run Kafka; or use Docker"
    if shutil.which("java") is None:
        raise OperationFailed(f"java was not found: {advice}")
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = java_major(done.stderr)
    if found is None or found < MIN_JAVA:
        raise OperationFailed(f"java is version {found or 'unknown'}: {advice}")


def java_major(text: str) -> int | None:
    """Return the major version in the output of `java -version`, or None."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None
