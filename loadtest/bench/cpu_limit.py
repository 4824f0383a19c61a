"""Limits processes to a share of a core with cgroups, which only root may do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtest.progress import print_line

PERIOD_US = 20_000
"""Short, so that a limited engine is slow instead of stopped: the kernel's default is 100 ms."""

MOUNTS = Path("/proc/mounts")


class CannotLimit(Exception):
    """The reason."""


class Hierarchy(NamedTuple):
    """A mounted hierarchy of cgroups with the cpu controller. `version`: of cgroups, 1 or 2."""

    root: Path
    version: int

    def settings(self, share: float) -> dict[str, str]:
        """File → value, in the order in which they are to be written."""
        quota_us = round(share * PERIOD_US)
        if self.version == 2:
            return {"cpu.max": f"{quota_us} {PERIOD_US}"}
        return {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}


def find_hierarchy(mounts: Path = MOUNTS) -> Hierarchy:
    """That of cgroup v2 if it has the cpu controller, otherwise that of v1. Raises `CannotLimit`.

    The kernel gives the cpu controller to one of them.
    """
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError as error:
        raise CannotLimit("this system has no cgroups") from error
    for _, path, kind, options, *_ in lines:
        root = Path(path)
        if kind == "cgroup2" and "cpu" in _words(root / "cgroup.controllers"):
            return Hierarchy(root, 2)
        if kind == "cgroup" and "cpu" in options.split(","):
            return Hierarchy(root, 1)
    raise CannotLimit("no cgroup hierarchy with the cpu controller is mounted")


class CpuLimit:
    """Gives each process a cgroup of its own, with the same share of a core."""

    def __init__(self, hierarchy: Hierarchy, share: float) -> None:
        """Raises `CannotLimit` when cgroups cannot be made."""
        self._hierarchy, self.share = hierarchy, share
        self._groups: list[Path] = []
        try:
            self._enable()
            self._make("probe")
        except OSError as error:
            self.close()
            raise CannotLimit(
                f"{error.filename}: {error.strerror}; limits need root and a writable cgroup mount"
            ) from error

    def add(self, pid: int) -> None:
        """Limit a process, with all processes that it starts from now on."""
        (self._make(str(pid)) / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Remove the cgroups; the processes must have ended."""
        for group in self._groups:
            try:
                group.rmdir()
            except OSError as error:
                print_line(f"{group} cannot be removed: {error.strerror}")
        self._groups.clear()

    def _enable(self) -> None:
        control = self._hierarchy.root / "cgroup.subtree_control"
        if self._hierarchy.version == 2 and "cpu" not in _words(control):
            control.write_text("+cpu")

    def _make(self, name: str) -> Path:
        group = self._hierarchy.root / f"postjournal-bench-{os.getpid()}-{name}"
        group.mkdir()
        self._groups.append(group)
        for file, value in self._hierarchy.settings(self.share).items():
            (group / file).write_text(value)
        return group


@contextmanager
def cpu_limit(share: float) -> Iterator[CpuLimit]:
    """A limit whose cgroups are removed at the end. Raises `CannotLimit`."""
    limit = CpuLimit(find_hierarchy(), share)
    try:
        yield limit
    finally:
        limit.close()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
