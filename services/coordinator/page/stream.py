"""Server-sent events: to each page that is open, the parts that have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Event, Lock, Thread

import msgspec

from postjournal.core.errors import JournalUnavailable, StoreUnavailable, StoreUnusable
from services.coordinator.catalogue import Row, Snapshots
from services.coordinator.following import ClusterState
from services.coordinator.page.fragments import (
    Part,
    parts_of,
)
from services.coordinator.page.model import PageModel
from services.problems import Problem

MAX_STREAMS = 24
"""Each keeps a thread of the server busy."""

LEAST_S, MOST_S = 0.1, 1.0
"""Between two looks: news are told at once, but not oftener than the eye can follow."""

ALIVE_S = 5.0
"""Something is sent at least this often: that is how a page that has gone is noticed."""

SNAPSHOTS_S = 0.5
"""Between two lists of the store, while somebody watches."""

WATCHED_S = 10.0
"""So long after a page was sent its reader is taken to watch; one that is open says so again."""

_encode = msgspec.json.Encoder(enc_hook=str).encode  # HTML is a kind of `str`


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """`parts`: new or changed, in order; `gone`: ids to remove; `say`: news in sentences."""

    parts: tuple[Part, ...] = ()
    gone: tuple[str, ...] = ()
    say: tuple[str, ...] = ()


class Difference:
    """What one page does not show yet."""

    def __init__(self) -> None:
        """The page shows nothing."""
        self._shown: dict[str, str] = {}
        self._states: dict[str, str] | None = None
        self._failovers: set[tuple[int, int]] = set()

    def take(self, model: PageModel) -> Message:
        """The next model; the message that brings the page up to it."""
        parts = list(parts_of(model))
        changed: list[Part] = []
        renewed: set[str] = set()
        for part in parts:
            if self._shown.get(part.id) != part.html or part.into in renewed:
                changed.append(part)
                renewed.add(part.id)
        gone = tuple(self._shown.keys() - {part.id for part in parts})
        self._shown = {part.id: part.html for part in parts}
        return Message(tuple(changed), gone, tuple(self._news(model)))

    def _news(self, model: PageModel) -> Iterator[str]:
        """Nothing of what was before the page was opened."""
        states = {each.key: each.state for each in model.replicas}
        before, self._states = self._states, states
        known, self._failovers = (
            self._failovers,
            {(each.shard, each.epoch) for each in model.failovers},
        )
        if before is None:
            return
        for replica in model.replicas:
            if before.get(replica.key) not in (replica.state, None):
                yield f"{replica.replica} is {replica.state} in shard {replica.shard}"
        for failover in reversed(model.failovers):
            if (failover.shard, failover.epoch) not in known:
                yield failover.summary


class SnapshotWatch:
    """Lists the store in a thread, while anybody watches: a store that hangs holds up nobody."""

    def __init__(self, snapshots: Snapshots, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is listed before `wake`. `clock`: seconds."""
        self._snapshots, self._clock = snapshots, clock
        self.rows: list[Row] = []
        self.unavailable_reason: str | None = None
        self._changed, self._closing = Condition(), Event()
        self._wanted_until = clock()
        self._thread = Thread(target=self._run, name="page-snapshots", daemon=True)
        self._thread.start()

    @property
    def is_wanted(self) -> bool:
        """Somebody has watched lately."""
        return self._clock() < self._wanted_until

    def wake(self) -> None:
        """Somebody watches now; to be said again within `WATCHED_S`."""
        with self._changed:
            self._wanted_until = self._clock() + WATCHED_S
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._closing.wait(SNAPSHOTS_S):
            with self._changed:
                self._changed.wait_for(lambda: self.is_wanted or self._closing.is_set())
            if self._closing.is_set():
                return
            try:
                self.rows, self.unavailable_reason = self._snapshots.rows(), None
            except (JournalUnavailable, StoreUnavailable, StoreUnusable) as error:
                self.unavailable_reason = str(error)


class Stream:
    """Events for one page. Whoever takes it closes it, be it read or not."""

    def __init__(self, events: Generator[bytes], release: Callable[[], None]) -> None:
        """`release` is called once, by the first `close`."""
        self._events, self._release = events, release
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next event, when there is one."""
        return next(self._events)

    def close(self) -> None:
        """Called by the server, also where it has sent nothing: a generator's `finally` does not
        run when it was never begun."""
        if not self._is_closed:
            self._is_closed = True
            self._events.close()
            self._release()


class Streams:
    """All pages that are open."""

    def __init__(self, cluster_state: ClusterState, watch: SnapshotWatch) -> None:
        """None is."""
        self._knowledge, self._watch = cluster_state, watch
        self._lock, self._open = Lock(), 0
        self._closing = Event()

    def begin(self, look: Callable[[], PageModel]) -> Stream:
        """Events for one more page. Raises `Problem` when there are too many."""
        with self._lock:
            if self._open >= MAX_STREAMS:
                raise Problem("too-many-pages", f"{self._open} pages are open", retry_after_s=5)
            self._open += 1
        return Stream(self._events(look), self._end)

    def close(self) -> None:
        """Let all of them go: the server stops."""
        self._closing.set()

    def _end(self) -> None:
        with self._lock:
            self._open -= 1

    def _events(self, look: Callable[[], PageModel]) -> Generator[bytes]:
        difference, version, said_s = Difference(), -1, time.monotonic()
        yield b"retry: 1000\n\n"
        while not self._closing.is_set():
            self._watch.wake()
            message = difference.take(look())
            if message != Message():
                said_s = time.monotonic()
                yield b"data: %s\n\n" % _encode(message)
            elif time.monotonic() - said_s > ALIVE_S:
                said_s = time.monotonic()
                yield b": alive\n\n"
            self._closing.wait(LEAST_S)
            version = self._knowledge.wait_for_update(version, MOST_S)
