"""What a system is doing: asked of the replicas and of the process manager."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec
import requests

from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.processes import is_paused, is_shell
from postjournal.cli.local.programs import CONFIGURATION_EXIT
from postjournal.cli.local.supervisor import Program
from postjournal.cluster.http import direct_session
from postjournal.cluster.status import CatchUp, ReplicaStatus

ANSWER_S = 0.5
"""A replica that takes longer to answer is not there."""


class ReplicaRow(msgspec.Struct, kw_only=True):
    """One replica and shard. `state` is the replica's word, or down, paused or starting."""

    name: str
    pid: int | None
    container: str | None = None
    state: str
    shard: int
    epoch: int | None = None
    seq: int | None = None
    digest: str | None = None
    lag: int | None = None
    leader: str | None = None
    http: str
    tripwire: str
    error: str | None = None
    catch_up: CatchUp | None = None


class ServiceRow(msgspec.Struct, kw_only=True):
    """One service that is not a replica. `state`: running, down or paused.

    `address`: None where this machine has none to a container.
    """

    address: str | None
    pid: int | None
    state: str
    error: str | None = None


class SystemStatus(msgspec.Struct, kw_only=True):
    """The whole system, as `status --json` prints it."""

    mode: str
    replicas: list[ReplicaRow]
    services: dict[str, ServiceRow]

    def leader(self, shard: int = 0) -> str | None:
        """The replica that says that it leads the shard, in the highest epoch."""
        leading = [r for r in self.replicas if r.shard == shard and r.state == "leader"]
        return max(leading, key=lambda r: r.epoch or 0).name if leading else None


class StateAnswer(msgspec.Struct):
    """What a replica's `GET /state` says."""

    replica: str
    pid: int
    shards: list[ReplicaStatus]


def ask_replica(url: str, timeout_s: float = ANSWER_S) -> StateAnswer | None:
    """The replica's own account; None when it gives none in time."""
    try:
        with direct_session() as session:
            answer = session.get(f"{url}/state", timeout=timeout_s)
        return msgspec.json.decode(answer.content, type=StateAnswer) if answer.ok else None
    except (requests.RequestException, msgspec.DecodeError):
        return None


class Places(Protocol):
    """What plans of local and of containers' systems both tell."""

    @property
    def replica_names(self) -> list[str]:
        """All replicas."""

    def url(self, name: str) -> str:
        """The HTTP address of a replica or service."""


def ask_replicas(plan: Places) -> dict[str, StateAnswer | None]:
    """Every replica's account, asked all at once."""
    names = plan.replica_names
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        answers = pool.map(lambda name: ask_replica(plan.url(name)), names)
        return dict(zip(names, answers, strict=True))


def leading(answers: Mapping[str, StateAnswer | None], shard: int) -> str | None:
    """Who says that it leads the shard, in the highest epoch."""
    claims = [
        (said.epoch, name)
        for name, answer in answers.items()
        for said in (answer.shards if answer else [])
        if said.shard == shard and said.state == "leader"
    ]
    return max(claims)[1] if claims else None


def collect(plan: Plan, layout: Layout, programs: Mapping[str, Program]) -> SystemStatus:
    """The status of a local system whose supervisord reports `programs`."""
    answers = ask_replicas(plan)
    rows = [
        row
        for name in plan.replica_names
        for row in _replica_rows(plan, layout, programs[name], answers[name])
    ]
    services = {
        name: _service_row(plan, layout, program)
        for name, program in programs.items()
        if name not in answers
    }
    return SystemStatus(mode="local", replicas=rows, services=services)


def last_words(layout: Layout, program: Program) -> str | None:
    """The last line of the log of a service that gave up over its configuration."""
    if program.running or program.exit_status != CONFIGURATION_EXIT:
        return None
    return log_tail(layout, program.name, 1) or "wrong configuration"


def log_tail(layout: Layout, name: str, lines: int) -> str:
    """The last lines of a service's log."""
    try:
        text = layout.log(name).read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _replica_rows(
    plan: Plan, layout: Layout, program: Program, answer: StateAnswer | None
) -> list[ReplicaRow]:
    known = {shard.shard: shard for shard in answer.shards} if answer else {}
    return [
        _answered(plan, program, known[shard])
        if shard in known
        else _unanswered(plan, layout, program, shard)
        for shard in range(plan.shards)
    ]


def _answered(plan: Plan, program: Program, said: ReplicaStatus) -> ReplicaRow:
    return ReplicaRow(
        name=program.name,
        pid=program.pid,
        state=said.state,
        shard=said.shard,
        epoch=said.epoch,
        seq=said.seq,
        digest=said.digest,
        lag=said.lag,
        leader=said.leader,
        http=plan.address(program.name),
        tripwire=plan.address(f"{program.name}/tripwire"),
        error=said.error,
        catch_up=said.catch_up,
    )


def _unanswered(plan: Plan, layout: Layout, program: Program, shard: int) -> ReplicaRow:
    return ReplicaRow(
        name=program.name,
        pid=_own_pid(program),
        state=_state(program, running="starting"),
        shard=shard,
        http=plan.address(program.name),
        tripwire=plan.address(f"{program.name}/tripwire"),
        error=last_words(layout, program),
    )


def _service_row(plan: Plan, layout: Layout, program: Program) -> ServiceRow:
    return ServiceRow(
        address=_service_address(plan, program.name),
        pid=_own_pid(program),
        state=_state(program, running="running"),
        error=last_words(layout, program),
    )


def _service_address(plan: Plan, name: str) -> str:
    """Of health and metrics, where the service answers nothing else."""
    if name not in plan.ports:
        return plan.url(f"{name}/metrics")
    return plan.url(name) if name in ("producer", "coordinator") else plan.address(name)


def _own_pid(program: Program) -> int | None:
    """None as well while a shell waits to start the service again."""
    return None if program.pid is None or is_shell(program.pid) else program.pid


def _state(program: Program, *, running: str) -> str:
    pid = _own_pid(program)
    if pid is None:
        return "down"
    return "paused" if is_paused(pid) else running
