"""The one exception of the command line."""

from postjournal.core.errors import PostjournalError


class OperationFailed(PostjournalError):
    """What the operator asked for cannot be done; the message says why and what to do."""
