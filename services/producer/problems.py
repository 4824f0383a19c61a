"""The gateway's problem types."""

from __future__ import annotations

from services.problems import COMMON, MEDIA_TYPE, Problem

__all__ = ["MEDIA_TYPE", "TITLES", "Problem"]

TITLES = {
    **COMMON,
    "unknown-account": (404, "The account does not exist"),
    "invalid-command": (422, "The body is not a valid command"),
    "invalid-batch": (422, "The batch has invalid commands; none was accepted"),
    "too-busy": (429, "Too many requests are in progress"),
    "unavailable": (503, "The log of commands is unavailable"),
    "outcome-unknown": (503, "Not every command that was sent is known to be accepted"),
    "no-leader": (503, "No replica can answer now"),
    "behind": (503, "No replica has reached that sequence yet"),
}
"""Problem type → status and title."""
