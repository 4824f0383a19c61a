"""Waiting until every part of a starting system answers."""

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
from postjournal.cli.http import direct_session
from postjournal.cli.local.layout import Layout
from postjournal.cli.local.plan import Plan
from postjournal.cli.local.processes import age_s
from postjournal.cli.local.status import ask_replicas, last_words, leading, log_tail
from postjournal.cli.local.supervisor import Program
from postjournal.config.settings import KafkaAccess

RESTARTS_UNTIL_FAILED = 3
POLL_S = 0.05
SETTLED_S = 1.5
TAIL_LINES = 20


@dataclass(frozen=True)
class Progress:
    """A step of the start, for people. `component` is "" when it is about the whole system."""

    component: str
    text: str
    ready: bool = False


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """For callers that do not show it."""


@dataclass
class Waiting:
    """Waits for components; fails early when one of their processes keeps ending."""

    layout: Layout
    programs: Callable[[], Mapping[str, Program]]
    on_progress: OnProgress = ignore_progress
    _pids: dict[str, set[int]] = field(default_factory=dict)

    def wait(self, checks: Mapping[str, Callable[[], bool]], timeout_s: float) -> None:
        """Return when every check was true once; raises `OperationFailed`."""
        pending, deadline = dict(checks), time.monotonic() + timeout_s
        for name in pending:
            self.on_progress(Progress(name, "starting"))
        while pending:
            self._look_for_failures()
            for name in [name for name, check in pending.items() if check()]:
                del pending[name]
                self.on_progress(Progress(name, "ready", ready=True))
            if pending and time.monotonic() > deadline:
                raise self._failure(next(iter(pending)), f"is not ready after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def _look_for_failures(self) -> None:
        for program in self.programs().values():
            words = last_words(self.layout, program)
            if words is not None:
                raise OperationFailed(f"{program.name} refuses its configuration: {words}")
            pids = self._pids.setdefault(program.name, set())
            if program.pid is not None:
                pids.add(program.pid)
            if len(pids) > RESTARTS_UNTIL_FAILED:
                raise self._failure(program.name, "keeps ending")

    def _failure(self, name: str, what: str) -> OperationFailed:
        tail = log_tail(self.layout, name, TAIL_LINES)
        return OperationFailed(
            f"{name} {what}; the end of its log, {self.layout.log(name)}:\n{tail}".rstrip()
        )


def storage_checks(plan: Plan) -> dict[str, Callable[[], bool]]:
    """Kafka and Redis answer."""
    kafka = KafkaProbe(KafkaAccess(plan.address("kafka")))
    redis = Redis.from_url(plan.redis_url, socket_timeout=0.5)
    return {"kafka": kafka.answers, "redis": partial(_redis_answers, redis)}


def service_checks(
    plan: Plan, programs: Callable[[], Mapping[str, Program]]
) -> dict[str, Callable[[], bool]]:
    """Replicas, gateway and coordinator are ready, each shard is led, the other services run."""
    checks: dict[str, Callable[[], bool]] = {}
    for name in (*plan.replica_names, "producer", "coordinator"):
        checks[name] = partial(_answers_200, f"{plan.url(name)}/readyz")
    for shard in range(plan.shards):
        checks[f"leader of shard {shard}"] = partial(_is_led, plan, shard)
    for name in ("consumer-results", "consumer-balances", "leader-view"):
        checks[name] = partial(_runs, programs, name)
    return checks


def _runs(programs: Callable[[], Mapping[str, Program]], name: str) -> bool:
    """There is a process that did not end at once."""
    pid = programs()[name].pid
    return pid is not None and age_s(pid) > SETTLED_S


def _redis_answers(redis: Redis) -> bool:
    with contextlib.suppress(RedisError):
        return bool(redis.ping())
    return False


def _answers_200(url: str) -> bool:
    with contextlib.suppress(requests.RequestException), direct_session() as session:
        return session.get(url, timeout=1).status_code == 200
    return False


def _is_led(plan: Plan, shard: int) -> bool:
    return leading(ask_replicas(plan), shard) is not None
