"""The coordinator's problem types."""

from __future__ import annotations

from services.problems import Titles

RETRY_AFTER_S = 2
"""For conditions that usually pass soon, such as an election."""

TITLES: Titles = {
    "unauthorized": (401, "A token is required"),
    "cross-site": (403, "A page of another site may not send this request"),
    "not-allowed": (403, "The configuration does not allow this operation"),
    "unknown-snapshot": (404, "There is no such snapshot"),
    "no-such-point": (404, "No state is available for that point"),
    "no-standby": (409, "No replica can do this now"),
    "no-leader": (409, "The shard has no leader now"),
    "too-busy": (429, "Too many replays are running"),
    "too-many-pages": (503, "Too many live pages are open"),
    "too-slow": (504, "The replay takes too long for a request"),
    "query-failed": (500, "The application's query failed"),
    "replay-failed": (500, "The past state could not be replayed"),
    "unavailable": (503, "Kafka, the snapshot store or a replica is unavailable"),
}
"""Problem type → status and title, in addition to `services.problems.COMMON`."""
