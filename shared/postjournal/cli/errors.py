"""What the command line raises."""

from postjournal.core.errors import PostjournalError


class OperationFailed(PostjournalError):
    """What the operator asked for cannot be done; the message says why and what to do."""


class AlreadyRunning(OperationFailed):
    """There is nothing to start."""
