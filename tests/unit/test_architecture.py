"""Sizes of files, functions and packages; the layers are import-linter contracts (pyproject)."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "shared" / "postjournal"
TOPS = ("shared", "services", "loadtest", "tests")

PURE = {
    *("__future__", "ast", "collections", "collections.abc", "dataclasses", "enum", "functools"),
    *("hashlib", "itertools", "operator", "re", "typing", "msgspec"),
}
"""What `core` may import besides itself."""

FILE_LINES, FUNCTION_LINES = 500, 70
FOLDER_FILES, PACKAGE_ENTRIES = 16, 16


def python_files(*tops: str) -> list[Path]:
    return [path for top in tops for path in (ROOT / top).rglob("*.py")]


def imports_of(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_core_imports_nothing_but_pure_modules() -> None:
    impure = {
        (path.name, module)
        for path in (PACKAGE / "core").rglob("*.py")
        for module in imports_of(path) - PURE
        if not module.startswith("postjournal.core")
    }
    assert not impure


def test_no_file_is_longer_than_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*TOPS)
        if (lines := len(path.read_text().splitlines())) > FILE_LINES
    }
    assert not long


def test_no_function_is_longer_than_70_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in python_files(*TOPS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    }
    assert not long


def test_no_folder_of_the_package_is_a_flat_sea_of_files() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(path.is_file() for path in folder.iterdir())) > FOLDER_FILES
    }
    assert not crowded
    visible = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(visible) <= PACKAGE_ENTRIES


READS_ENVIRONMENT = {
    "services": set[str](),
    "shared": {"shared/postjournal/config/variables.py"},
}
"""The files that use `os.environ`: only the declarations of the variables."""


def test_only_the_configuration_reads_the_environment() -> None:
    for top, allowed in READS_ENVIRONMENT.items():
        readers = {
            str(path.relative_to(ROOT))
            for path in python_files(top)
            if any(map(uses_environment, ast.walk(ast.parse(path.read_text()))))
        }
        assert readers == allowed


def uses_environment(node: ast.AST) -> bool:
    names = ("environ", "environb", "getenv", "putenv", "unsetenv")
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in names for alias in node.names)
    is_of_os = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "os"
    return is_of_os and getattr(node, "attr", "") in names


def test_only_the_kafka_adapters_import_confluent_kafka() -> None:
    importers = {
        path.parent
        for path in python_files("shared", "services", "loadtest")
        if any(module.split(".")[0] == "confluent_kafka" for module in imports_of(path))
    }
    # The load generators use librdkafka directly, in one module.
    kafka = PACKAGE / "adapters" / "kafka"
    assert importers == {kafka, kafka / "engine", ROOT / "loadtest"}
