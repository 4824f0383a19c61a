"""The simulated power cut undoes what was not synced, and that only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from postjournal.config.variables import process_environment
from tests.support.power_cut.broker import compiled_recorder, recording
from tests.support.power_cut.disk import Disk

PRELUDE = """
import os, sys
os.chdir("/")
root = sys.argv[1]

def write(name, data, flags=os.O_CREAT | os.O_WRONLY, sync=True):
    file = os.open(f"{root}/{name}", flags)
    os.write(file, data)
    if sync:
        os.fsync(file)
    os.close(file)

def sync_directory(name="."):
    directory = os.open(f"{root}/{name}".removesuffix("/."), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_recorder(tmp_path_factory.mktemp("recorder"))


class Machine:
    """A folder with one file, `old`, and a process that changes it."""

    def __init__(self, recorder: Path, tmp_path: Path) -> None:
        self.folder = tmp_path / "disk"
        self.folder.mkdir()
        (self.folder / "old").write_bytes(b"12345")
        self._recorder, self._record = recorder, tmp_path / "record"

    def cut_after(self, code: str, *, strict: bool = False) -> dict[str, bytes]:
        """The files after the code and a power cut; of a directory its name with a slash."""
        disk = Disk(self.folder, strict=strict)
        environment = recording(self._recorder, self.folder, self._record)
        subprocess.run(
            [sys.executable, "-S", "-c", PRELUDE + code, str(self.folder)],
            check=True,
            env=process_environment(environment),
        )
        disk.cut_power(self._record)
        return {
            str(path.relative_to(self.folder)) + "/" * path.is_dir(): (
                b"" if path.is_dir() else path.read_bytes()
            )
            for path in self.folder.rglob("*")
        }


@pytest.fixture
def machine(recorder: Path, tmp_path: Path) -> Machine:
    return Machine(recorder, tmp_path)


UNTOUCHED = {"old": b"12345"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("write('new', b'x')", UNTOUCHED | {"new": b"x"}),
        ("write('new', b'x', sync=False)", UNTOUCHED),
        ("write('new', b'x', sync=False); sync_directory()", UNTOUCHED | {"new": b""}),
        ("write('old', b'67', os.O_WRONLY | os.O_APPEND)", {"old": b"1234567"}),
        ("write('old', b'67', os.O_WRONLY | os.O_APPEND, sync=False)", UNTOUCHED),
        ("write('old', b'x', os.O_WRONLY)", {"old": b"x2345"}),
        ("write('old', b'x', os.O_WRONLY | os.O_TRUNC)", {"old": b"x"}),
        ("write('old', b'x', os.O_WRONLY | os.O_TRUNC, sync=False)", UNTOUCHED),
        ("f = os.open(root + '/old', os.O_RDWR); os.ftruncate(f, 2)", UNTOUCHED),
        ("f = os.open(root + '/old', os.O_RDWR); os.ftruncate(f, 2); os.fsync(f)", {"old": b"12"}),
        (
            "f = os.open(root + '/old', os.O_RDWR); os.pwrite(f, b'x', 7); os.fdatasync(f);"
            "os.writev(f, [b'y', b'z'])",
            {"old": b"12345\0\0x"},
        ),
        ("os.unlink(root + '/old')", UNTOUCHED),
        ("os.unlink(root + '/old'); sync_directory()", {}),
        ("os.rename(root + '/old', root + '/new')", UNTOUCHED),
        ("os.rename(root + '/old', root + '/new'); sync_directory()", {"new": b"12345"}),
        (
            "os.mkdir(root + '/d'); write('d/new', b'x')",
            UNTOUCHED | {"d/": b"", "d/new": b"x"},
        ),
        (
            "os.mkdir(root + '/d'); write('d/new', b'x', sync=False); sync_directory()",
            UNTOUCHED | {"d/": b""},
        ),
        ("os.mkdir(root + '/d'); os.rmdir(root + '/d'); sync_directory()", UNTOUCHED),
        ("write('new.index', b'xy')", UNTOUCHED | {"new.index": b"\0\0"}),
    ],
)
def test_only_what_was_synced_is_there_after_the_cut(
    machine: Machine, code: str, expected: dict[str, bytes]
) -> None:
    assert machine.cut_after(code) == expected


def test_a_strict_disk_requires_a_sync_of_each_directory(machine: Machine) -> None:
    code = "os.mkdir(root + '/d'); write('d/new', b'x'); sync_directory('d')"
    assert machine.cut_after(code, strict=True) == UNTOUCHED
    assert machine.cut_after(f"{code}; sync_directory()", strict=True) == UNTOUCHED | {
        "d/": b"",
        "d/new": b"x",
    }


def test_two_cuts_follow_each_other(machine: Machine) -> None:
    assert machine.cut_after("write('new', b'x')") == UNTOUCHED | {"new": b"x"}
    assert machine.cut_after("write('new', b'yz', sync=False)") == UNTOUCHED | {"new": b"x"}


def test_a_change_that_is_not_recorded_is_found(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"disk/old was changed in a way that is not recorded"):
        machine.cut_after("os.truncate(root + '/old', 1)")
