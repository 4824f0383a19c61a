"""What is wrong with a machine, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from postjournal.cli.doctor.facts import Facts
from postjournal.cli.local.kafka import LOWEST_JAVA

GIB = 1 << 30

LEAST_MEMORY, GOOD_MEMORY = 1 * GIB, 2 * GIB
"""Kafka's heap is 1 GiB at most, and each of some eight Python processes takes 50 to 100 MB."""

LEAST_DISK, GOOD_DISK = GIB // 2, 2 * GIB
"""130 MB of Kafka, 200 MB of Python packages; the rest is the journal's."""

LEAST_FILES = 1_024
"""Kafka keeps some files open for each partition, and connections."""

LOWEST_DOCKER, LOWEST_COMPOSE = (20, 10), (2, 20)
"""Compose 2.20 knows `include` and what `up --wait` needs for one-shot services."""


class State(Enum):
    """How bad it is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """`advice`: what to do, or "" when nothing has to be done."""

    name: str
    state: State
    found: str
    advice: str = ""


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, good ones as well."""
    return [finding for check in CHECKS for finding in check(facts)]


def _python(facts: Facts) -> Iterator[Finding]:
    version = ".".join(map(str, facts.python))
    is_good = facts.python >= (3, 11)
    yield _found("python", is_good, version, "install Python 3.11 or later")


def _java(facts: Facts) -> Iterator[Finding]:
    """Only Docker can do without."""
    severity = State.WARNING if facts.engine else State.BAD
    advice = f"install Java {LOWEST_JAVA} or later (a JRE is enough), or use Docker"
    if facts.java is None:
        yield Finding("java", severity, "not found", advice)
    elif not facts.java or int(facts.java) < LOWEST_JAVA:
        yield Finding("java", severity, f"version {facts.java or 'unknown'}", advice)
    else:
        yield Finding("java", State.GOOD, facts.java)


def _kafka(facts: Facts) -> Iterator[Finding]:
    if facts.has_kafka:
        yield Finding("kafka", State.GOOD, "its jars are here")
    elif facts.maven:
        yield Finding("kafka", State.GOOD, "its jars are fetched at the first start")
    else:
        severity = State.WARNING if facts.engine else State.BAD
        advice = "install Maven: it fetches Kafka's jars once; or use Docker"
        yield Finding("kafka", severity, "no jars, and no Maven to fetch them", advice)


def _memory(facts: Facts) -> Iterator[Finding]:
    found = f"{facts.memory_available / GIB:.1f} GiB available"
    yield _amount(
        "memory",
        facts.memory_available,
        (LEAST_MEMORY, GOOD_MEMORY),
        found,
        "close something, or start fewer replicas (`up --replicas 2`)",
    )


def _disk(facts: Facts) -> Iterator[Finding]:
    found = f"{facts.disk_free / GIB:.1f} GiB free"
    yield _amount(
        "disk", facts.disk_free, (LEAST_DISK, GOOD_DISK), found, "make room: the journal grows"
    )


def _files(facts: Facts) -> Iterator[Finding]:
    is_enough = facts.open_files < 0 or facts.open_files >= LEAST_FILES
    found = "unlimited" if facts.open_files < 0 else str(facts.open_files)
    yield _found("open files", is_enough, found, f"ulimit -n {LEAST_FILES}", State.WARNING)


def _processors(facts: Facts) -> Iterator[Finding]:
    advice = "expect failovers of some hundred milliseconds: everything shares one processor"
    yield _found("processors", facts.cpus >= 2, str(facts.cpus), advice, State.WARNING)


def _docker(facts: Facts) -> Iterator[Finding]:
    """It is not needed; but one that is there should work."""
    if facts.docker is None:
        yield Finding("docker", State.GOOD, "not installed: `up` runs local processes")
    elif facts.engine is None:
        found = "installed, but no engine answers"
        yield Finding("docker", State.WARNING, found, "start it, or use `up --local`")
    else:
        advice = "update Docker, or use `up --local`"
        is_new = _numbers(facts.engine) >= LOWEST_DOCKER
        yield _found("docker", is_new, f"engine {facts.engine}", advice, State.WARNING)
        is_new = facts.compose is not None and _numbers(facts.compose) >= LOWEST_COMPOSE
        found = facts.compose or "not found"
        advice = "install the Compose plugin 2.20 or later, or use `up --local`"
        yield _found("compose", is_new, found, advice, State.WARNING)


def _ports(facts: Facts) -> Iterator[Finding]:
    """Local mode takes other ports; people expect the usual ones."""
    for taken in facts.ports:
        yield Finding(
            f"port {taken.port}",
            State.WARNING,
            f"taken by {taken.by or 'another user'}",
            f"`up --local` takes another port for {taken.name}; Docker does not: stop what "
            "listens there",
        )
    if not facts.ports:
        found = "in use by the running system" if facts.running else "free"
        yield Finding("ports", State.GOOD, found)


def _leftovers(facts: Facts) -> Iterator[Finding]:
    if facts.leftovers:
        yield Finding(
            "leftovers",
            State.BAD,
            f"of a system whose process manager died: {', '.join(facts.leftovers)}",
            "run `./postjournal down`: it ends them and keeps the data",
        )


def _proxies(facts: Facts) -> Iterator[Finding]:
    if facts.proxies:
        advice = "put 127.0.0.1 and localhost into no_proxy, or curl's calls go astray"
        yield Finding("proxy", State.WARNING, f"{' '.join(facts.proxies)} is set", advice)


def _systems(facts: Facts) -> Iterator[Finding]:
    is_known = facts.system in ("Linux", "Darwin")
    yield _found("system", is_known, facts.system, "use Linux, macOS, or WSL on Windows")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
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


def _amount(
    name: str, amount: int, least_and_good: tuple[int, int], found: str, advice: str
) -> Finding:
    least, good = least_and_good
    if amount >= good:
        return Finding(name, State.GOOD, found)
    return Finding(name, State.BAD if amount < least else State.WARNING, found, advice)


def _numbers(version: str) -> tuple[int, ...]:
    """Of `v2.20.3-desktop.1`: (2, 20)."""
    parts = version.removeprefix("v").split(".")[:2]
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in parts)
