"""Waiting until every component of a starting system is ready."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import requests
from redis import Redis, RedisError

from postjournal.adapters.kafka.admin import KafkaProbe
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.processes import age_s
from postjournal.cli.local.status import (
    configuration_error,
    fetch_states,
    find_leader,
    log_tail,
)
from postjournal.cli.local.supervisor import ProgramInfo
from postjournal.cluster.http import direct_session
from postjournal.config.settings import KafkaAccess

RESTARTS_UNTIL_FAILED = 3
POLL_S = 0.05
SETTLED_S = 1.5
"""The age at which a service without a readiness check counts as started."""

TAIL_LINES = 20


@dataclass(frozen=True)
class StartupStep:
    """A step of the start, to be displayed. `component`: "" for the whole system."""

    component: str
    text: str
    ready: bool = False


OnStep = Callable[[StartupStep], None]


def ignore_step(_: StartupStep) -> None:
    """The `OnStep` of callers that display nothing."""


@dataclass
class ReadinessWaiter:
    """Waits for components; fails early when one of their processes keeps exiting."""

    layout: Layout
    programs: Callable[[], Mapping[str, ProgramInfo]]
    on_step: OnStep = ignore_step
    _pids: dict[str, set[int]] = field(default_factory=dict)

    def wait(self, checks: Mapping[str, Callable[[], bool]], timeout_s: float) -> None:
        """Return when every check was true once; raise `OperationFailed` after `timeout_s`."""
        pending, deadline = dict(checks), time.monotonic() + timeout_s
        for name in pending:
            self.on_step(StartupStep(name, "starting"))
        while pending:
            self._check_for_failures()
            for name in [name for name, check in pending.items() if check()]:
                del pending[name]
                self.on_step(StartupStep(name, "ready", ready=True))
            if pending and time.monotonic() > deadline:
                raise self._failure(next(iter(pending)), f"is not ready after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def _check_for_failures(self) -> None:
        for program in self.programs().values():
            error = configuration_error(self.layout, program)
            if error is not None:
                raise OperationFailed(f"{program.name} has an invalid configuration: {error}")
            pids = self._pids.setdefault(program.name, set())
            if program.pid is not None:
                pids.add(program.pid)
            if len(pids) > RESTARTS_UNTIL_FAILED:
                raise self._failure(program.name, "keeps exiting")

    def _failure(self, name: str, what: str) -> OperationFailed:
        tail = log_tail(self.layout, name, TAIL_LINES)
        return OperationFailed(
            f"{name} {what}; the end of its log, {self.layout.log(name)}:\n{tail}".rstrip()
        )


def storage_checks(plan: Plan) -> dict[str, Callable[[], bool]]:
    """Return the checks that Kafka and Redis answer, by component."""
    kafka = KafkaProbe(KafkaAccess(plan.address("kafka")))
    redis = Redis.from_url(plan.redis_url, socket_timeout=0.5)
    return {"kafka": kafka.answers, "redis": partial(_redis_answers, redis)}


def service_checks(
    plan: Plan, programs: Callable[[], Mapping[str, ProgramInfo]]
) -> dict[str, Callable[[], bool]]:
    """Return the checks of all services and shards, by component.

    Replicas, gateway and coordinator are ready, each shard has a leader, other services run.
    """
    checks: dict[str, Callable[[], bool]] = {}
    for name in (*plan.replica_names, "producer", "coordinator"):
        checks[name] = partial(_is_ready, f"{plan.url(name)}/readyz")
    for shard in range(plan.shards):
        checks[f"leader of shard {shard}"] = partial(_has_leader, plan, shard)
    for name in ("consumer-results", "consumer-balances", "leader-view"):
        checks[name] = partial(_runs, programs, name)
    return checks


def _runs(programs: Callable[[], Mapping[str, ProgramInfo]], name: str) -> bool:
    """Whether the service has a process that did not exit at once."""
    pid = programs()[name].pid
    return pid is not None and age_s(pid) > SETTLED_S


def _redis_answers(redis: Redis) -> bool:
    with contextlib.suppress(RedisError):
        return bool(redis.ping())
    return False


def _is_ready(url: str) -> bool:
    with contextlib.suppress(requests.RequestException), direct_session() as session:
        return session.get(url, timeout=1).status_code == 200
    return False


def _has_leader(plan: Plan, shard: int) -> bool:
    return find_leader(fetch_states(plan), shard) is not None
