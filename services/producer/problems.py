"""The gateway's problem types."""

from __future__ import annotations

from services.problems import COMMON, MEDIA_TYPE, Problem

__all__ = ["MEDIA_TYPE", "TITLES", "Problem"]

TITLES = {
    **COMMON,
    "unknown-account": (404, "There is no such account"),
    "invalid-command": (422, "The body is no valid command"),
    "invalid-batch": (422, "The batch holds invalid commands; none was accepted"),
    "too-busy": (429, "Too many requests are under way"),
    "unavailable": (503, "The log of commands cannot be reached"),
    "outcome-unknown": (503, "Not all that was sent is known to be accepted"),
    "no-leader": (503, "No replica can answer now"),
    "behind": (503, "No replica has reached that sequence yet"),
}
"""Problem type → status and title."""
