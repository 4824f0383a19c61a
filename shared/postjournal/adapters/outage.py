"""One log line when something goes away, one when it is back, however often it is tried."""

from __future__ import annotations

import logging
from threading import Lock
from time import monotonic


class Outage:
    """Whether something that is needed is away. Safe to use from several threads."""

    def __init__(self, what: str, log: logging.Logger) -> None:
        """`what` begins the log lines: "Kafka at localhost:9092", for example."""
        self._what, self._log = what, log
        self._lock = Lock()
        self._since: float | None = None
        self._why = ""
        self._told: set[str] = set()

    @property
    def active(self) -> bool:
        """True from `begin` to `end`."""
        return self._since is not None

    @property
    def why(self) -> str:
        """What `begin` was told last."""
        return self._why

    def begin(self, why: str) -> None:
        """It is away; each reason is logged once until it is back."""
        with self._lock:
            self._since = self._since or monotonic()
            self._why = why
            is_news = why not in self._told
            self._told.add(why)
        if is_news:
            self._log.warning("%s: %s; trying again until it works", self._what, why)

    def end(self) -> None:
        """It works; logged when it was away."""
        if self._since is None:  # called for every record
            return
        with self._lock:
            since, self._since, self._why = self._since, None, ""
            self._told.clear()
        if since is not None:
            self._log.info("%s: works again after %.1f s", self._what, monotonic() - since)
