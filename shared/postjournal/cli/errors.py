"""What the command line raises, and the exit codes that scripts can rely on."""

from __future__ import annotations

from typing import ClassVar

from postjournal.core.errors import PostjournalError

EXIT_CODES = {
    0: "done; of a check: nothing is wrong",
    1: "it failed, or a check found something: the message says what to do",
    2: "wrong usage, or a check that could not be made",
    3: "what was named does not exist: no system is running, no such replica, log or command",
}


class OperationFailed(PostjournalError):
    """What the operator asked for cannot be done; the message says why and what to do."""

    exit_code: ClassVar[int] = 1


class AlreadyRunning(OperationFailed):
    """There is nothing to start."""


class NotFound(OperationFailed):
    """What the operator named is not there."""

    exit_code: ClassVar[int] = 3
