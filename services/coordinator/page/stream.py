"""Server-sent events: sends each open page the fragments that have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from threading import Event, Lock

import msgspec

from services.coordinator.cluster_state import ClusterState
from services.coordinator.page.difference import Difference, Message
from services.coordinator.page.model import PageModel
from services.coordinator.page.snapshot_poller import SnapshotPoller
from services.problems import Problem

MAX_STREAMS = 24
"""Each occupies a thread of the server."""

MIN_INTERVAL_S, MAX_INTERVAL_S = 0.1, 1.0
"""Between two updates: a change is sent at once, but not more often than the eye can follow."""

KEEPALIVE_S = 5.0
"""Something is sent at least this often, because only a send detects that a page was closed."""

RETRY_AFTER_S = 5
"""For a page that finds `MAX_STREAMS` others open."""

_encode = msgspec.json.Encoder(enc_hook=str).encode  # for `Markup`, a subclass of str


class Stream:
    """The events of one page. The caller closes it, whether or not it has read from it."""

    def __init__(self, events: Generator[bytes], release: Callable[[], None]) -> None:
        """`release` is called once, by the first `close`."""
        self._events, self._release = events, release
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Release the stream; the server calls it for every response.

        A generator's `finally` would not do: it does not run if the server has sent nothing.
        """
        if not self._is_closed:
            self._is_closed = True
            self._events.close()
            self._release()


class Streams:
    """The streams of all open pages."""

    def __init__(self, cluster_state: ClusterState, poller: SnapshotPoller) -> None:
        """`poller` is kept active while a stream is open."""
        self._cluster_state, self._poller = cluster_state, poller
        self._lock, self._open_count = Lock(), 0
        self._closing = Event()

    def open(self, current_model: Callable[[], PageModel]) -> Stream:
        """Open the stream of one more page. Raises `Problem` (too-many-pages)."""
        with self._lock:
            if self._open_count >= MAX_STREAMS:
                raise Problem(
                    "too-many-pages",
                    f"{self._open_count} live pages are open, the maximum; close one",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._open_count += 1
        return Stream(self._events(current_model), self._release)

    def close(self) -> None:
        """End all streams, because the server stops."""
        self._closing.set()

    def _release(self) -> None:
        with self._lock:
            self._open_count -= 1

    def _events(self, current_model: Callable[[], PageModel]) -> Generator[bytes]:
        difference, version, sent_s = Difference(), -1, time.monotonic()
        yield b"retry: 1000\n\n"
        while not self._closing.is_set():
            self._poller.activate()
            message = difference.update(current_model())
            if message != Message():
                sent_s = time.monotonic()
                yield b"data: %s\n\n" % _encode(message)
            elif time.monotonic() - sent_s > KEEPALIVE_S:
                sent_s = time.monotonic()
                yield b": alive\n\n"
            self._closing.wait(MIN_INTERVAL_S)
            version = self._cluster_state.wait_for_update(version, MAX_INTERVAL_S)
