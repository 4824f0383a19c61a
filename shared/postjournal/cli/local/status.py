"""The state of a system, fetched from its replicas and the process manager."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec
import requests

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.processes import is_paused, is_shell
from postjournal.cli.local.programs import CONFIGURATION_EXIT
from postjournal.cli.local.supervisor import ProgramInfo
from postjournal.cluster.http import direct_session
from postjournal.cluster.status import CatchUp, ReplicaStatus

TIMEOUT_S = 0.5
"""A replica that takes longer to answer counts as unreachable."""

NOT_RUNNING = "the system is not running: start it with `./postjournal up`"


REPORTED = ("state", "epoch", "seq", "digest", "lag", "leader", "error", "catch_up", "last_end")
"""The fields of `ReplicaRow` that a replica reports."""


class ReplicaRow(msgspec.Struct, kw_only=True):
    """One shard of one replica. `state`: as the replica reports it, or down, paused, starting.

    `pid`: of the replica's main process; `engine_pid`: of this shard's engine, as the replica
    reports it, in a container as seen from within; `last_end`: see `ReplicaStatus`.
    """

    name: str
    pid: int | None
    engine_pid: int | None = None
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
    last_end: str | None = None


class ServiceRow(msgspec.Struct, kw_only=True):
    """One service that is not a replica. `state`: running, down or paused.

    `address`: None for a container without one on this machine.
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
        """Return the replica that reports to lead the shard in the highest epoch, or None."""
        leaders = [r for r in self.replicas if r.shard == shard and r.state == "leader"]
        return max(leaders, key=lambda r: r.epoch or 0).name if leaders else None

    def require_leader(self, shard: int) -> str:
        """Return the leader of the shard; raise `OperationFailed` when there is none."""
        leader = self.leader(shard)
        if leader is None:
            raise OperationFailed(f"shard {shard} has no leader now: see `./postjournal status`")
        return leader


class StateResponse(msgspec.Struct):
    """The body of a replica's `GET /state`."""

    replica: str
    pid: int
    shards: list[ReplicaStatus]


def fetch_state(url: str, timeout_s: float = TIMEOUT_S) -> StateResponse | None:
    """Fetch a replica's `GET /state`; None when it does not answer in time."""
    try:
        with direct_session() as session:
            response = session.get(f"{url}/state", timeout=timeout_s)
        return msgspec.json.decode(response.content, type=StateResponse) if response.ok else None
    except (requests.RequestException, msgspec.DecodeError):
        return None


class ReplicaAddresses(Protocol):
    """The addresses in a plan of the local mode or of containers."""

    @property
    def replica_names(self) -> list[str]:
        """The names of all replicas."""

    def address(self, name: str) -> str:
        """host:port of a replica's HTTP server (`NAME`) or tripwire (`NAME/tripwire`)."""

    def url(self, name: str) -> str:
        """The HTTP address of a replica or service."""


def fetch_states(plan: ReplicaAddresses) -> dict[str, StateResponse | None]:
    """Fetch the state of all replicas at once; see `fetch_state`."""
    names = plan.replica_names
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        states = pool.map(lambda name: fetch_state(plan.url(name)), names)
        return dict(zip(names, states, strict=True))


def find_leader(states: Mapping[str, StateResponse | None], shard: int) -> str | None:
    """Return the replica that reports to lead the shard in the highest epoch, or None."""
    leaders = [
        (report.epoch, name)
        for name, state in states.items()
        for report in (state.shards if state else [])
        if report.shard == shard and report.state == "leader"
    ]
    return max(leaders)[1] if leaders else None


def local_status(plan: Plan, layout: Layout, programs: Mapping[str, ProgramInfo]) -> SystemStatus:
    """Return the status of a local system whose supervisord reports `programs`."""
    states = fetch_states(plan)
    rows = [
        row
        for name in plan.replica_names
        for row in _replica_rows(plan, layout, programs[name], states[name])
    ]
    services = {
        name: _service_row(plan, layout, program)
        for name, program in programs.items()
        if name not in states
    }
    return SystemStatus(mode="local", replicas=rows, services=services)


def configuration_error(layout: Layout, program: ProgramInfo) -> str | None:
    """Return the last log line of a service that exited because of its configuration, or None."""
    if program.running or program.exit_status != CONFIGURATION_EXIT:
        return None
    return log_tail(layout, program.name, 1) or "invalid configuration"


def log_tail(layout: Layout, name: str, lines: int) -> str:
    """Return the last lines of a service's log."""
    try:
        text = layout.log(name).read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def running_engine(row: ReplicaRow) -> int:
    """Return the pid of a row's engine; raise `OperationFailed` when it has reported none."""
    if row.engine_pid is None:
        raise no_engine(row)
    return row.engine_pid


def no_engine(row: ReplicaRow) -> OperationFailed:
    """Return the error for a row whose engine is not running."""
    return OperationFailed(
        f"{row.name} has no engine of shard {row.shard} now; see `./postjournal status`"
    )


def replica_row(
    plan: ReplicaAddresses,
    name: str,
    shard: int,
    report: ReplicaStatus | None,
    *,
    pid: int | None,
    state: str,
    container: str | None = None,
    error: str | None = None,
) -> ReplicaRow:
    """Return the row of a replica; `state` and `error` apply when it has not reported."""
    row = ReplicaRow(
        name=name,
        pid=pid,
        container=container,
        state=state,
        shard=shard,
        http=plan.address(name),
        tripwire=plan.address(f"{name}/tripwire"),
        error=error,
    )
    if report is not None:
        row.engine_pid = report.pid or None
        for field in REPORTED:
            setattr(row, field, getattr(report, field))
    return row


def _replica_rows(
    plan: Plan, layout: Layout, program: ProgramInfo, state: StateResponse | None
) -> list[ReplicaRow]:
    reports = {report.shard: report for report in state.shards} if state else {}
    return [
        replica_row(
            plan,
            program.name,
            shard,
            reports.get(shard),
            pid=program.pid if shard in reports else _own_pid(program),
            state=_state(program, running="starting"),
            error=configuration_error(layout, program),
        )
        for shard in range(plan.shards)
    ]


def _service_row(plan: Plan, layout: Layout, program: ProgramInfo) -> ServiceRow:
    return ServiceRow(
        address=_service_address(plan, program.name),
        pid=_own_pid(program),
        state=_state(program, running="running"),
        error=configuration_error(layout, program),
    )


def _service_address(plan: Plan, name: str) -> str:
    """That of health and metrics for a service that has no other."""
    if name not in plan.ports:
        return plan.url(f"{name}/metrics")
    return plan.url(name) if name in ("producer", "coordinator") else plan.address(name)


def _own_pid(program: ProgramInfo) -> int | None:
    """The service's pid; None also while a shell waits to restart it."""
    return None if program.pid is None or is_shell(program.pid) else program.pid


def _state(program: ProgramInfo, *, running: str) -> str:
    pid = _own_pid(program)
    if pid is None:
        return "down"
    return "paused" if is_paused(pid) else running
