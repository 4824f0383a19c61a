"""The properties of a machine that matter to Postjournal."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

import psutil

from postjournal.cli.local import processes
from postjournal.cli.local.kafka import java_major
from postjournal.cli.local.kafka_jars import LIBRARIES
from postjournal.cli.local.layout import DEFAULT_DIRECTORY, Layout
from postjournal.cli.local.plan import read_plan
from postjournal.cli.local.ports import is_free, well_known_ports
from postjournal.config.variables import process_environment

COMMAND_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class PortInUse:
    """A port of the local mode that has a listener; `by`: its program, None when unknown."""

    name: str
    port: int
    by: str | None


@dataclass(frozen=True)
class Machine:
    """A machine's properties. The defaults are a healthy machine without Docker.

    `memory_available`, `disk_free`: bytes; `open_files`: the limit, negative for none; `java`,
    `docker`, `compose`: versions, None when not found, "" when unknown; `engine`: the version of
    the Docker engine, None when none answers; `running`: this checkout's system is running;
    `leftovers`: processes of this checkout's system whose process manager has exited; `proxies`:
    names of proxy variables that are set.
    """

    python: tuple[int, int] = (3, 11)
    system: str = "Linux"
    cpus: int = 2
    memory_available: int = 8 << 30
    disk_free: int = 50 << 30
    open_files: int = 65_536
    java: str | None = "17"
    maven: bool = True
    has_kafka: bool = False
    docker: str | None = None
    engine: str | None = None
    compose: str | None = None
    ports: tuple[PortInUse, ...] = ()
    running: bool = False
    leftovers: tuple[str, ...] = ()
    proxies: tuple[str, ...] = field(default=())


def inspect_machine() -> Machine:
    """Return this machine's properties. Takes up to 10 s for each `docker` call that hangs."""
    directory = DEFAULT_DIRECTORY if DEFAULT_DIRECTORY.exists() else DEFAULT_DIRECTORY.parent
    running, leftovers = _own_system()
    return Machine(
        python=sys.version_info[:2],
        system=platform.system(),
        cpus=os.cpu_count() or 1,
        memory_available=psutil.virtual_memory().available,
        disk_free=shutil.disk_usage(directory).free,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        java=_java(),
        maven=shutil.which("mvn") is not None,
        has_kafka=LIBRARIES.exists(),
        docker=_version("docker", "--version"),
        engine=_version("docker", "version", "--format", "{{.Server.Version}}"),
        compose=_version("docker", "compose", "version", "--short"),
        ports=() if running else _ports_in_use(),
        running=running,
        leftovers=leftovers,
        proxies=tuple(
            name for name in ("http_proxy", "HTTP_PROXY") if process_environment().get(name)
        ),
    )


def _java() -> str | None:
    if shutil.which("java") is None:
        return None
    done = _run("java", "-version")
    major = java_major(done.stderr) if done else None
    return "" if major is None else str(major)


def _version(*command: str) -> str | None:
    """The output of a version command; None when the program is missing or fails."""
    done = _run(*command) if shutil.which(command[0]) else None
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return None


def _ports_in_use() -> tuple[PortInUse, ...]:
    in_use = {name: port for name, port in well_known_ports(3).items() if not is_free(port)}
    listeners = _listeners() if in_use else {}
    return tuple(PortInUse(name, port, listeners.get(port)) for name, port in in_use.items())


def _listeners() -> dict[int, str]:
    """Port → program and pid of its listener, where this user may see them."""
    found: dict[int, str] = {}
    try:
        for socket in psutil.net_connections("tcp"):
            if socket.status == psutil.CONN_LISTEN and socket.pid and socket.laddr:
                program = psutil.Process(socket.pid).name()
                found[socket.laddr.port] = f"{program}, pid {socket.pid}"
    except psutil.Error:
        return found
    return found


def _own_system() -> tuple[bool, tuple[str, ...]]:
    plan = read_plan(Layout(DEFAULT_DIRECTORY))
    if plan is None:
        return False, ()
    alive = processes.of_system(plan.token)
    if processes.has_manager(alive):
        return True, ()
    return False, tuple(f"{process.name()} (pid {process.pid})" for process in alive)
