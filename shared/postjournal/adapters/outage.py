"""One log line when something becomes unavailable and one when it is back, however often tried."""

from __future__ import annotations

import logging
from threading import Lock
from time import monotonic


class Outage:
    """Whether something is unavailable, and why. Safe to use from several threads."""

    def __init__(self, what: str, log: logging.Logger) -> None:
        """`what` begins the log lines: "Kafka at localhost:9092", for example."""
        self._what, self._log = what, log
        self._lock = Lock()
        self._since: float | None = None
        self._reason: str | None = None
        self._logged: set[str] = set()

    @property
    def is_active(self) -> bool:
        """True from `start` to `end`."""
        return self._since is not None

    @property
    def reason(self) -> str | None:
        """The reason that was given last; None while there is no outage."""
        return self._reason

    def start(self, reason: str) -> None:
        """Note a failure; each reason is logged once per outage."""
        with self._lock:
            self._since = self._since or monotonic()
            self._reason = reason
            is_new = reason not in self._logged
            self._logged.add(reason)
        if is_new:
            self._log.warning("%s: %s; retrying until it works", self._what, reason)

    def end(self) -> None:
        """Note a success; logged when there was an outage."""
        if self._since is None:  # called for every record
            return
        with self._lock:
            since, self._since, self._reason = self._since, None, None
            self._logged.clear()
        if since is not None:
            self._log.info("%s: works again after %.1f s", self._what, monotonic() - since)
