"""The lock files pin what pyproject.toml asks for; `./postjournal lock` makes them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from postjournal.cli.commands.checks import LOCKS, lock_commands

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = re.compile(r"[A-Za-z0-9._-]+")
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)((?: |\\).*(?:\n    .*)+)", re.MULTILINE)


def names(requirements: list[str]) -> set[str]:
    found = [NAME.match(requirement) for requirement in requirements]
    return {re.sub(r"[._-]+", "-", match[0]).lower() for match in found if match}


def group(name: str) -> set[str]:
    items = PYPROJECT["dependency-groups"][name]
    included = [group(item["include-group"]) for item in items if isinstance(item, dict)]
    return names([item for item in items if isinstance(item, str)]).union(*included)


def pins(file: str) -> dict[str, str]:
    """Package → version, of pins that have a hash."""
    found = PIN.findall((ROOT / file).read_text())
    return {name: version for name, version, hashes in found if "--hash=sha256:" in hashes}


DEPENDENCIES = names(PYPROJECT["project"]["dependencies"])
WANTED = {
    "requirements-dev.txt": DEPENDENCIES | group("dev"),
    "requirements.txt": DEPENDENCIES,
    "requirements-load.txt": group("load"),
    "requirements-services.txt": group("services"),
}


@pytest.mark.parametrize("file", LOCKS)
def test_a_lock_file_pins_each_dependency_with_hashes(file: str) -> None:
    assert not WANTED[file] - pins(file).keys()
    lines = (ROOT / file).read_text().splitlines()
    assert len(pins(file)) == sum("==" in line for line in lines)


def test_all_lock_files_pin_the_same_versions() -> None:
    whole = pins("requirements-dev.txt")
    for file in LOCKS:
        assert pins(file).items() <= whole.items(), file


def test_the_services_need_nothing_that_the_package_does_not_declare() -> None:
    assert group("services") < DEPENDENCIES


def test_every_lock_file_has_a_command() -> None:
    made = [command[command.index("--output-file") + 1] for command in lock_commands(upgrade=False)]
    assert sorted(made) == sorted(path.name for path in ROOT.glob("requirements*.txt"))
