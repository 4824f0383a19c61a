"""The dashboards' files are what the code makes, and hold what people need to read them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from grafana.__main__ import BOARDS, FOLDER, text_of
from grafana.panels import dashboard_json

boards = pytest.mark.parametrize("name", BOARDS)


@boards
def test_the_file_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text_of(dashboard_json(BOARDS[name])), (
        "run `.venv/bin/python -m grafana`"
    )


def test_there_is_no_file_that_nothing_makes() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(BOARDS)


@boards
def test_every_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    for panel in dashboard_json(BOARDS[name])["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


@boards
def test_every_variable_is_used_and_every_one_used_is_there(name: str) -> None:
    board = dashboard_json(BOARDS[name])
    known = {each["name"] for each in board["templating"]["list"]}
    queries = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert set(re.findall(r"\$([a-z]+)", queries)) == known


@boards
def test_no_panel_covers_another(name: str) -> None:
    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return (
            one["x"] < other["x"] + other["w"]
            and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"]
            and other["y"] < one["y"] + one["h"]
        )

    panels: list[dict[str, Any]] = dashboard_json(BOARDS[name])["panels"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    places = [panel["gridPos"] for panel in panels]
    assert not any(overlap(*pair) for pair in combinations(places, 2))
    assert len({panel["id"] for panel in panels}) == len(panels)
