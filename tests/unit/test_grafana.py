"""The dashboards' files are current, and every panel is described."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from grafana.__main__ import BOARDS, FOLDER, text_of
from grafana.panels import dashboard_json

boards = pytest.mark.parametrize("name", BOARDS)


@boards
def test_the_file_is_what_the_code_generates(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text_of(dashboard_json(BOARDS[name])), (
        "run `.venv/bin/python -m grafana`"
    )


def test_every_file_is_generated() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(BOARDS)


@boards
def test_every_panel_has_a_title_a_description_and_a_unit(name: str) -> None:
    for panel in dashboard_json(BOARDS[name])["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


@boards
def test_every_variable_is_used_and_every_used_one_is_defined(name: str) -> None:
    board = dashboard_json(BOARDS[name])
    known = {variable["name"] for variable in board["templating"]["list"]}
    queries = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert set(re.findall(r"\$([a-z]+)", queries)) == known


@boards
def test_no_two_panels_overlap(name: str) -> None:
    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return (
            one["x"] < other["x"] + other["w"]
            and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"]
            and other["y"] < one["y"] + one["h"]
        )

    panels: list[dict[str, Any]] = dashboard_json(BOARDS[name])["panels"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    positions = [panel["gridPos"] for panel in panels]
    assert not any(overlap(*pair) for pair in combinations(positions, 2))
    assert len({panel["id"] for panel in panels}) == len(panels)
