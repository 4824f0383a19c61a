"""That planted bugs are what they say; whether the simulation finds them is asked elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.hunt import HuntResult, hunt
from tests.simulation.planted.planting import Bug, DoesNotApply


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_python_and_stands_in_one_place(name: str) -> None:
    bug = BUGS[name]
    compile(bug.planted(), bug.module, "exec")


@pytest.mark.parametrize("right", ["nowhere", "self."])
def test_a_bug_that_does_not_apply_in_exactly_one_place_is_an_error(right: str) -> None:
    with pytest.raises(DoesNotApply, match="not once"):
        Bug("postjournal.core.fold", right, "x").planted()


def test_there_are_at_least_thirty() -> None:
    assert len(BUGS) >= 30


def test_a_planted_bug_is_found_and_leaves_the_source_as_it_was() -> None:
    name = "a claim tells more than was read"
    before = BUGS[name].path.read_bytes()
    (found,) = hunt([name], 1)
    assert found == HuntResult(name, 1, "a_claim_carries_the_last_offset_read")
    assert BUGS[name].path.read_bytes() == before


def test_what_is_loaded_already_cannot_be_planted() -> None:
    code = (
        "import postjournal.core.fold\n"
        "from tests.simulation.planted.bugs import BUGS\n"
        "from tests.simulation.planted.planting import plant\n"
        "plant(BUGS['a mark falls'])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 1
    assert "is loaded already" in done.stderr
