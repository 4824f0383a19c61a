"""Errors of the command line, and the exit codes that scripts can rely on."""

from __future__ import annotations

from typing import ClassVar

from postjournal.core.errors import PostjournalError

EXIT_CODES = {
    0: "success; for a check: nothing is wrong",
    1: "failure, or a check found a problem; the message names the fix",
    2: "invalid usage, or a check that could not run",
    3: "not found: no running system, or no such replica, log or command",
}


class OperationFailed(PostjournalError):
    """A request of the operator failed; the message has the reason and what to do."""

    exit_code: ClassVar[int] = 1


class AlreadyRunning(OperationFailed):
    """The system to start is already running."""


class NotFound(OperationFailed):
    """A system, replica, service, log or command that the operator named does not exist."""

    exit_code: ClassVar[int] = 3
