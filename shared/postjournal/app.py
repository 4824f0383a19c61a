"""The application interface: subclass `Application`, name it in POSTJOURNAL_APP.

See `postjournal.ledger` for a sample of under two hundred lines.
"""

from __future__ import annotations

import importlib
from typing import Any

from postjournal.core.application import Application, Command, Context, Event, Output, Rejected
from postjournal.core.errors import ConfigurationError
from postjournal.core.records import Outcome

__all__ = [
    "Application",
    "Command",
    "Context",
    "Event",
    "Outcome",
    "Output",
    "Rejected",
    "load_application",
]


def load_application(name: str) -> Application[Any, Any, Any]:
    """Return an instance of the class that `name` (`package.module:Class`) refers to.

    Raises `ConfigurationError` when there is no such class, or it is not an `Application`.
    """
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"POSTJOURNAL_APP={name}: {error}; it must be package.module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Application)):
        raise ConfigurationError(
            f"POSTJOURNAL_APP={name}: the class is not a subclass of postjournal.app.Application"
        )
    return found()
