"""The problems of a machine, and their fixes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from postjournal.cli.doctor.machine import Machine
from postjournal.cli.local.kafka import MIN_JAVA

GIB = 1 << 30

MIN_MEMORY, GOOD_MEMORY = 1 * GIB, 2 * GIB
"""Kafka's heap is 1 GiB, and each of about eight Python processes takes 50 to 100 MB."""

MIN_DISK, GOOD_DISK = GIB // 2, 2 * GIB
"""Kafka takes 130 MB, Python packages 200 MB; the rest is for the journal."""

MIN_FILES = 1_024
"""Kafka holds several files open for each partition, and its connections."""

MIN_DOCKER, MIN_COMPOSE = (20, 10), (2, 20)
"""Compose 2.20 is the first with `include` and with one-shot services under `up --wait`."""


class State(Enum):
    """The severity of a finding."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """One property of the machine. `advice`: the fix, "" when none is needed."""

    name: str
    state: State
    found: str
    advice: str = ""


def diagnose(machine: Machine) -> list[Finding]:
    """Return the findings of all checks, including good ones."""
    return [finding for check in CHECKS for finding in check(machine)]


def _python(machine: Machine) -> Iterator[Finding]:
    version = ".".join(map(str, machine.python))
    is_good = machine.python >= (3, 11)
    yield _found("python", is_good, version, "install Python 3.11 or later")


def _java(machine: Machine) -> Iterator[Finding]:
    """Docker does not need the machine's Java."""
    severity = State.WARNING if machine.engine else State.BAD
    advice = f"install Java {MIN_JAVA} or later (a JRE suffices), or use Docker"
    if machine.java is None:
        yield Finding("java", severity, "not found", advice)
    elif not machine.java or int(machine.java) < MIN_JAVA:
        yield Finding("java", severity, f"version {machine.java or 'unknown'}", advice)
    else:
        yield Finding("java", State.GOOD, machine.java)


def _kafka(machine: Machine) -> Iterator[Finding]:
    if machine.has_kafka:
        yield Finding("kafka", State.GOOD, "downloaded")
    elif machine.maven:
        yield Finding("kafka", State.GOOD, "downloaded at the first start")
    else:
        severity = State.WARNING if machine.engine else State.BAD
        advice = "install Maven, which downloads Kafka once, or use Docker"
        yield Finding("kafka", severity, "not downloaded, and Maven was not found", advice)


def _memory(machine: Machine) -> Iterator[Finding]:
    found = f"{machine.memory_available / GIB:.1f} GiB available"
    yield _amount(
        "memory",
        machine.memory_available,
        (MIN_MEMORY, GOOD_MEMORY),
        found,
        "close other programs, or start fewer replicas (`up --replicas 2`)",
    )


def _disk(machine: Machine) -> Iterator[Finding]:
    found = f"{machine.disk_free / GIB:.1f} GiB free"
    yield _amount(
        "disk",
        machine.disk_free,
        (MIN_DISK, GOOD_DISK),
        found,
        "free disk space: the journal grows",
    )


def _files(machine: Machine) -> Iterator[Finding]:
    is_enough = machine.open_files < 0 or machine.open_files >= MIN_FILES
    found = "unlimited" if machine.open_files < 0 else str(machine.open_files)
    yield _found(
        "open files", is_enough, found, f"raise the limit: `ulimit -n {MIN_FILES}`", State.WARNING
    )


def _processors(machine: Machine) -> Iterator[Finding]:
    advice = "expect failovers of several 100 ms: all processes share one processor"
    yield _found("processors", machine.cpus >= 2, str(machine.cpus), advice, State.WARNING)


def _docker(machine: Machine) -> Iterator[Finding]:
    """Docker is optional, but an installed one should work."""
    if machine.docker is None:
        yield Finding("docker", State.GOOD, "not installed: `up` runs local processes")
    elif machine.engine is None:
        found = "installed, but its engine does not answer"
        yield Finding("docker", State.WARNING, found, "start it, or use `up --local`")
    else:
        advice = "update Docker to 20.10 or later, or use `up --local`"
        is_new = _numbers(machine.engine) >= MIN_DOCKER
        yield _found("docker", is_new, f"engine {machine.engine}", advice, State.WARNING)
        is_new = machine.compose is not None and _numbers(machine.compose) >= MIN_COMPOSE
        found = machine.compose or "not found"
        advice = "install the Compose plugin 2.20 or later, or use `up --local`"
        yield _found("compose", is_new, found, advice, State.WARNING)


def _ports(machine: Machine) -> Iterator[Finding]:
    """The local mode uses free ports instead; documents name the well-known ones."""
    for port in machine.ports:
        yield Finding(
            f"port {port.port}",
            State.WARNING,
            f"in use by {port.by or 'another user'}",
            f"`up --local` uses another port for {port.name}; with Docker, stop the program first",
        )
    if not machine.ports:
        found = "in use by the running system" if machine.running else "free"
        yield Finding("ports", State.GOOD, found)


def _leftovers(machine: Machine) -> Iterator[Finding]:
    if machine.leftovers:
        yield Finding(
            "leftovers",
            State.BAD,
            f"processes without their process manager: {', '.join(machine.leftovers)}",
            "run `./postjournal down`, which stops them and keeps the data",
        )


def _proxies(machine: Machine) -> Iterator[Finding]:
    if machine.proxies:
        advice = "add 127.0.0.1 and localhost to no_proxy, or curl uses the proxy for them"
        yield Finding("proxy", State.WARNING, f"{' '.join(machine.proxies)} is set", advice)


def _systems(machine: Machine) -> Iterator[Finding]:
    is_known = machine.system in ("Linux", "Darwin")
    yield _found("system", is_known, machine.system, "use Linux, macOS, or WSL on Windows")


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _systems,
    _python,
    _java,
    _kafka,
    _processors,
    _memory,
    _disk,
    _files,
    _docker,
    _ports,
    _proxies,
    _leftovers,
)


def _found(
    name: str, is_good: bool, found: str, advice: str, otherwise: State = State.BAD
) -> Finding:
    return Finding(name, State.GOOD, found) if is_good else Finding(name, otherwise, found, advice)


def _amount(name: str, amount: int, bounds: tuple[int, int], found: str, advice: str) -> Finding:
    """`bounds`: below the first is bad, below the second a warning."""
    bad, good = bounds
    if amount >= good:
        return Finding(name, State.GOOD, found)
    return Finding(name, State.BAD if amount < bad else State.WARNING, found, advice)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor: (2, 20) of `v2.20.3-desktop.1`."""
    parts = version.removeprefix("v").split(".")[:2]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)
