"""Planted bugs apply, however the engine is formatted; tests/simulation finds them elsewhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.fragments import FragmentError, replace
from tests.simulation.planted.hunt import HuntResult, hunt
from tests.simulation.planted.planting import Bug, DoesNotApply

WIDTHS = (60, 140)
"""Half the project's line length, which wraps lines, and one that joins them."""


@cache
def formatted(path: Path, width: int) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(width)]
    source = path.read_text(encoding="utf-8")
    done = subprocess.run(
        [*command, "--stdin-filename", path.name, "-"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    )
    assert width > 100 or done.stdout != source, "nothing was wrapped"
    return done.stdout


@cache
def parsed(source: str) -> str:
    return ast.dump(ast.parse(source))


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_compiles_and_changes_the_module(name: str) -> None:
    bug = BUGS[name]
    compile(bug.planted(), bug.module, "exec")
    assert parsed(bug.planted()) != parsed(bug.path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_the_same_after_the_module_is_formatted(name: str, width: int) -> None:
    bug = BUGS[name]
    assert parsed(bug.planted_in(formatted(bug.path, width))) == parsed(bug.planted())


def test_no_planted_bug_is_found_for_an_undefined_name_alone(tmp_path: Path) -> None:
    for number, bug in enumerate(BUGS.values()):
        (tmp_path / f"bug_{number}.py").write_text(bug.planted(), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_two_planted_bugs_are_the_same() -> None:
    planted = {(bug.module, parsed(bug.planted())) for bug in BUGS.values()}
    assert len(planted) == len(BUGS)


@pytest.mark.parametrize("right", ["nowhere", "self.", ""])
def test_a_bug_that_does_not_apply_in_exactly_one_place_is_an_error(right: str) -> None:
    with pytest.raises(DoesNotApply, match="not once"):
        Bug("postjournal.core.fold", right, "x").planted()


def test_there_are_at_least_thirty() -> None:
    assert len(BUGS) >= 30


def test_a_planted_bug_is_found_and_leaves_the_source_unchanged() -> None:
    name = "a claim carries an offset that was not read"
    before = BUGS[name].path.read_bytes()
    (result,) = hunt([name], 1)
    assert result == HuntResult(name, 1, "a_claim_carries_the_last_offset_read")
    assert BUGS[name].path.read_bytes() == before


def test_a_bug_cannot_be_planted_in_a_loaded_module() -> None:
    code = (
        "import postjournal.core.fold\n"
        "from tests.simulation.planted.bugs import BUGS\n"
        "from tests.simulation.planted.planting import plant\n"
        "plant(BUGS['a mark decreases'])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 1
    assert "is loaded already" in done.stderr


# --- fragments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "right", "wrong", "expected"),
    [
        ("a = b + c\n", "b+c", "b - c", "a = b - c\n"),
        ("a = f(\n    b,\n    c,\n)\n", "f(b, c)", "f(c, b)", "a = f(c, b)\n"),
        ("a = f(b, c)\n", "f(\n    b,\n    c,\n)", "f(c)", "a = f(c)\n"),
        ("a = [  # why\n    b\n]\n", "a = [b]", "a = []", "a = []\n"),
        ("a = b + \\\n    c\n", "b + c", "c", "a = c\n"),
        ("x = f'{a} of {b}'\n", "f'{a} of {b}'", "f'{b}'", "x = f'{b}'\n"),
        ('x = f"({a}"\ny = (b)\n', "y = b", "y = c", 'x = f"({a}"\ny = c\n'),
        ("x = 'é'; y = b\n", "b", "c", "x = 'é'; y = c\n"),
    ],
)
def test_a_fragment_matches_by_its_tokens(
    source: str, right: str, wrong: str, expected: str
) -> None:
    assert replace(source, right, wrong) == expected


@pytest.mark.parametrize(
    ("source", "right", "wrong", "expected"),
    [
        # wrapped in brackets
        ("x = (\n    a\n    + b\n)\n", "x = a + b", "x = a - b", "x = a - b"),
        ("x = (\n    a\n    + b\n)\n", "a + b", "a - b", "x = a - b"),
        ("if (\n    a\n    and b\n):\n    c\n", "if a and b:", "if a:", "if a:\n    c"),
        ("if (\n    a\n    and b\n):\n    c\n", "and b:", "and not b:", "if a and not b:\n    c"),
        ("x = (\n    a and\n    b or c\n)\n", "x = a", "x = not a", "x = not a and b or c"),
        ("x = (\n    a,\n    b,\n)\n", "x = a, b", "x = b, a", "x = b, a"),
        # joined, and brackets that are needed
        ("x = a + b\n", "x = (a + b)", "x = (a - b)", "x = a - b"),
        ("x = (a + b) * c\n", "a + b", "a - b", "x = (a - b) * c"),
        ("x = (a + b) * c\n", "(a + b) * c", "(a - b) * c", "x = (a - b) * c"),
    ],
)
def test_brackets_that_only_group_do_not_matter(
    source: str, right: str, wrong: str, expected: str
) -> None:
    assert parsed(replace(source, right, wrong)) == parsed(expected)


def test_brackets_of_calls_and_parameters_matter() -> None:
    for source in ("f(a)\n", "f[a]\n", "def f(a): ...\n"):
        with pytest.raises(FragmentError, match="0 times"):
            replace(source, "f a", "b")


def test_a_fragment_that_cuts_a_bracket_in_two_is_an_error() -> None:
    with pytest.raises(FragmentError, match="quote all of it"):
        replace("x = (\n    a\n    or b\n    or c\n)\n", "x = a or b", "y = b")
    with pytest.raises(FragmentError, match="quote all of it"):
        replace("if (\n    a\n    or b\n):\n    c\n", "or b:", "or c: c; c")


def test_an_empty_replacement_removes_a_statement() -> None:
    assert replace("if a:\n    f(b)\n", "f(b)", "") == "if a:\n    pass\n"


def test_a_replacement_of_several_lines_is_indented_as_the_line_it_replaces() -> None:
    source = "def f():\n    if a:\n        b\n"
    expected = "def f():\n    if a:\n        if c:\n            d\n"
    assert replace(source, "b", "if c:\n    d") == expected


SEVERAL = """
class A:
    def f(self):
        return 1

    def g(self):
        return 1


def f():
    return 1
"""


@pytest.mark.parametrize(("within", "line"), [("A.f", 4), ("A.g", 7), ("f", 11)])
def test_a_function_narrows_the_search(within: str, line: int) -> None:
    changed = replace(SEVERAL, "return 1", "return 2", within).splitlines()
    assert [number for number, text in enumerate(changed, 1) if "return 2" in text] == [line]


def test_a_function_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FragmentError, match="no definition of h"):
        replace(SEVERAL, "return 1", "return 2", "A.h")
