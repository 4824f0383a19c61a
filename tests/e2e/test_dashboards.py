"""Every panel and every alert has data in a real Prometheus that scrapes a real system."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import requests
import yaml

from grafana.__main__ import BOARDS
from grafana.panels import dashboard_json
from postjournal.cli.coordinator import CoordinatorClient
from postjournal.cli.errors import OperationFailed
from postjournal.cli.handover import hand_over
from postjournal.cli.local.system import LocalSystem
from tests.support.prometheus_tools import RULES, PrometheusServer, prometheus_tool
from tests.support.services import eventually

pytestmark = pytest.mark.kafka

T = TypeVar("T")

LOAD_S = 8
"""Before, between and after the changes of leader: rates need several scrapes of each leader."""

VARIABLES = {"$shard": ".*", "$replica": ".*", "$route": ".*", "$__rate_interval": "5s"}


@dataclass
class Run:
    prometheus: PrometheusServer
    start_s: float
    end_s: float

    def filled_in(self, expr: str) -> str:
        """`expr` with the values that Grafana would substitute for its variables."""
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        return expr.replace("$__range", f"{self.end_s - self.start_s:.0f}s")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three replicas and all services under load: a snapshot, a handover, a leader killed."""
    prometheus_tool("prometheus")  # skips where there is none, before anything is started
    folder = tmp_path_factory.mktemp("dashboards")
    system = LocalSystem(folder / "system")
    system.start(replicas=3)
    try:
        with PrometheusServer(folder, _targets(system)) as prometheus:
            eventually(lambda: prometheus.is_ready)
            start_s = time.time()
            _load(system, LOAD_S)
            _snapshot(system)
            _hand_over(system)
            _load(system, LOAD_S)
            system.kill(_leader(system))
            _load(system, LOAD_S)
            yield Run(prometheus, start_s, time.time())
    finally:
        system.stop()
        system.delete_data()


def _targets(system: LocalSystem) -> dict[str, list[str]]:
    plan = system.plan
    sinks = ("consumer-results", "consumer-balances")
    return {
        "replica": [plan.address(name) for name in plan.replica_names],
        "producer": [plan.address("producer/metrics")],
        "consumer": [plan.address(f"{name}/metrics") for name in sinks],
        "leader-view": [plan.address("leader-view/metrics")],
        "coordinator": [plan.address("coordinator/metrics")],
    }


def _snapshot(system: LocalSystem) -> None:
    coordinator = CoordinatorClient(system.plan.url("coordinator"))

    def done(identity: str) -> bool:
        return {row.state for row in coordinator.snapshot(identity)} == {"done"}

    (identity, _) = _retried(lambda: coordinator.request_snapshot(None, allow_leader=False))
    eventually(lambda: _retried(lambda: done(identity)))


def _hand_over(system: LocalSystem) -> None:
    _retried(lambda: hand_over(system, 0, None))


def _leader(system: LocalSystem) -> str:
    def found() -> str:
        leader = system.status().leader()
        if leader is None:
            raise OperationFailed("no replica leads now")
        return leader

    return _retried(found)


def _retried(act: Callable[[], T]) -> T:
    """Call `act` until it succeeds; it may fail while the leader changes."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return act()
        except OperationFailed:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _load(system: LocalSystem, seconds: float) -> None:
    url, until_s, n = system.plan.url("producer"), time.time() + seconds, 0
    with requests.Session() as session:
        while time.time() < until_s:
            for command in ({"type": "open"}, {"type": "deposit", "amount": 5}):
                body = command | {"account": f"a{n % 50}"}
                session.post(f"{url}/api/v1/commands", json=body, headers={"Prefer": "wait=5"})
            session.get(f"{url}/api/v1/accounts/a{n % 50}")
            n += 1
            time.sleep(0.02)


def panels() -> Iterator[Any]:
    for name, board in BOARDS.items():
        for panel in dashboard_json(board)["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target, id=f"{name}: {panel['title']} {target['refId']}")


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("target", list(panels()))
def test_a_panel_has_data(run: Run, target: dict[str, Any]) -> None:
    expr = run.filled_in(target["expr"])
    if target["instant"]:
        assert run.prometheus.at(expr, run.end_s)
    else:
        assert run.prometheus.over(expr, run.start_s, run.end_s)


@pytest.mark.parametrize("board", BOARDS)
def test_annotations_and_variables_have_data(run: Run, board: str) -> None:
    found = dashboard_json(BOARDS[board])
    for annotation in found["annotations"]["list"]:
        times = run.prometheus.over(run.filled_in(annotation["expr"]), run.start_s, run.end_s)
        values = {float(value) for series in times for _, value in series["values"]}
        # The first leader, the one after the handover, the one after the kill; on a busy machine
        # the leader may have changed once more.
        assert len(values) >= 3
        assert sum(run.start_s * 1000 < value < run.end_s * 1000 for value in values) >= 2
    for variable in found["templating"]["list"]:
        metric = re.match(r"label_values\((.*), \w+\)", variable["definition"])
        assert metric
        assert run.prometheus.at(run.filled_in(metric[1]), run.end_s)


@pytest.mark.parametrize("rule", rules("recording.yml"), ids=lambda rule: rule["record"])
def test_a_recording_rule_has_data(run: Run, rule: dict[str, Any]) -> None:
    assert run.prometheus.over(rule["record"], run.start_s, run.end_s)


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: rule["alert"])
def test_an_alert_watches_series_that_exist(run: Run, rule: dict[str, Any]) -> None:
    run.prometheus.at(rule["expr"], run.end_s)
    watched = set(re.findall(r"\b(?:\w+:)?(?:postjournal_\w+|up)(?::\w+)?", rule["expr"]))
    assert watched
    for series in watched:
        assert run.prometheus.over(series, run.start_s, run.end_s), series


def test_a_healthy_system_with_one_failover_fires_no_alert(run: Run) -> None:
    fired = run.prometheus.over(
        'ALERTS{alertstate="firing",severity!="info"}', run.start_s, run.end_s
    )
    names = {series["metric"]["alertname"] for series in fired}
    if _elections(run) > 5:  # on a machine this busy the alert is correct
        names.discard("TooManyElections")
    assert names == set()


def _elections(run: Run) -> float:
    (series,) = run.prometheus.over("max(postjournal_epoch)", run.start_s, run.end_s)
    epochs = [float(value) for _, value in series["values"]]
    return max(epochs) - min(epochs)
