"""Kills single processes of a local replica."""

from __future__ import annotations

import psutil

from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import ReplicaRow

HTTP_PROCESS = "services.replica.http_process"


def kill_parent(row: ReplicaRow) -> None:
    """Send SIGKILL to the replica's main process, and to no other.

    Raises `OperationFailed` when there is none.
    """
    try:
        _parent(row).kill()
    except psutil.NoSuchProcess as error:
        raise OperationFailed(f"{row.name} has just ended") from error


def kill_http(row: ReplicaRow) -> None:
    """Send SIGKILL to the replica's HTTP process.

    Raises `OperationFailed` when there is none.
    """
    try:
        _http_process(row).kill()
    except psutil.NoSuchProcess as error:
        raise OperationFailed(f"{row.name} or its HTTP process has just ended") from error


def _parent(row: ReplicaRow) -> psutil.Process:
    if row.pid is None or row.container is not None:
        raise OperationFailed(f"{row.name} is not a running local replica")
    return psutil.Process(row.pid)


def _http_process(row: ReplicaRow) -> psutil.Process:
    """Not by `children()`, which compares times that depend on the wall clock."""
    parent = _parent(row)
    for process in psutil.process_iter(["ppid", "cmdline"]):
        found = process.info
        if found["ppid"] == parent.pid and HTTP_PROCESS in (found["cmdline"] or ()):
            return process
    raise OperationFailed(f"{row.name} has no HTTP process now")
