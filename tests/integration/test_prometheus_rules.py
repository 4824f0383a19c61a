"""Prometheus' own checks of the configuration; every alert has a test and a runbook section."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus_tools import prometheus_tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))


def promtool(*arguments: str) -> None:
    command = [prometheus_tool("promtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def alerts() -> list[dict[str, Any]]:
    return [rule for group in load(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]]


def test_prometheus_accepts_the_configuration() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    fired: set[str] = set()
    silent: set[str] = set()
    for path in TESTS:
        for case in (case for test in load(path)["tests"] for case in test["alert_rule_test"]):
            (fired if case.get("exp_alerts") else silent).add(case["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert fired == names
    assert silent == names


def test_every_alert_has_a_severity_a_summary_and_a_section_in_the_runbook() -> None:
    headings = {
        line.removeprefix("### ").lower()
        for line in (ROOT / "docs" / "operations.md").read_text().splitlines()
        if line.startswith("### ")
    }
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket", "info")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"
        assert alert["alert"].lower() in headings
