"""The rooms of the house: imports point one way, and core stays pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "shared" / "postjournal"
PURE = {
    *("__future__", "ast", "collections", "collections.abc", "dataclasses", "enum", "functools"),
    *("hashlib", "itertools", "operator", "re", "typing", "msgspec"),
}
ORDER = {
    "core": ("postjournal.core",),
    "ports.py": ("postjournal.core",),
    "runtime.py": ("postjournal.core", "postjournal.ports"),
    "app.py": ("postjournal.core",),
    "ledger": ("postjournal.app", "postjournal.ledger"),
}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def files_of(room: str) -> list[Path]:
    place = SHARED / room
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def test_core_imports_nothing_but_pure_modules() -> None:
    foreign = {
        (path.name, module)
        for path in files_of("core")
        for module in imports_of(path)
        if module not in PURE and not module.startswith("postjournal.core")
    }
    assert not foreign


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_the_rooms_below_it(room: str) -> None:
    wrong = {
        (path.name, module)
        for path in files_of(room)
        for module in imports_of(path)
        if module.startswith(("postjournal", "services")) and not module.startswith(ORDER[room])
    }
    assert not wrong


def test_nothing_in_shared_imports_a_service() -> None:
    wrong = {
        (path.name, module)
        for path in SHARED.rglob("*.py")
        for module in imports_of(path)
        if module.split(".")[0] == "services"
    }
    assert not wrong


def test_no_file_of_ours_outgrows_a_readers_patience() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for top in ("shared", "services", "tests")
        for path in (ROOT / top).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_no_function_of_ours_is_over_70_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for top in ("shared", "services", "tests")
        for path in (ROOT / top).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 70
    }
    assert not long


ENGINE = ("fold", "machine", "replica", "outbox", "dedupe", "tenure")


def test_the_auditor_shares_no_code_with_the_engine_it_audits() -> None:
    """Neither its own files nor anything that they import, however far."""
    engine = {f"postjournal.core.{name}" for name in ENGINE}
    seen: set[str] = set()
    waiting = {f"postjournal.verify.{path.stem}" for path in files_of("verify")}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        path = file_of(module)
        waiting |= set(imports_of(path)) - seen if path else set()
    assert seen.isdisjoint(engine)
    assert "postjournal.core.records" in seen


def file_of(module: str) -> Path | None:
    """The file of one of our modules."""
    place = ROOT / "shared" / Path(*module.split("."))
    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()]
    return found[0] if found else None
