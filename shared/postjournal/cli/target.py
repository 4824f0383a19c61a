"""Which Kafka a command reads: the running system's, or one that is named."""

from __future__ import annotations

import os

from postjournal.cli.modes import running_system


def environment_of(bootstrap: str | None) -> dict[str, str]:
    """The POSTJOURNAL_… variables of the system that is meant.

    Those of this process where `bootstrap` is named or POSTJOURNAL_BOOTSTRAP is set, else those
    of the running system; one in containers adds who we are to Kafka. Raises `OperationFailed`
    when none is running.
    """
    if bootstrap is not None or "POSTJOURNAL_BOOTSTRAP" in os.environ:
        return dict(os.environ)
    return {**os.environ, **running_system().settings()}
