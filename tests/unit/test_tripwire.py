"""The tripwire's client, over connections that the test holds."""

from __future__ import annotations

import socket
from threading import Event, Thread

from postjournal.adapters.process.tripwire import TripwireClient


class Raced(TripwireClient):
    """`race` runs once, in another thread, just when the target is looked at next."""

    race: Thread | None = None
    value: tuple[str, int] | None = None

    @property
    def _target(self) -> tuple[str, int] | None:
        seen, race, self.race = self.value, self.race, None
        if race is not None:
            race.start()
            race.join(0.2)  # to its end, unless it has to wait for the reader
        return seen

    @_target.setter
    def _target(self, target: tuple[str, int] | None) -> None:
        self.value = target


class Leaders:
    """The first dies as soon as a peer holds a connection to it; the second lives."""

    def __init__(self) -> None:
        self.successor_is_watched = Event()
        self.kept: list[socket.socket] = []
        self.client: Raced | None = None

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        if address[0] == "second":
            self.kept.append(theirs)
            self.successor_is_watched.set()
        elif not self.kept:
            self.kept.append(ours)
            theirs.close()
        else:
            assert self.client is not None
            self.client.race = Thread(target=self.client.watch, args=("second:1", 2))
            raise ConnectionRefusedError
        return ours


def test_a_leader_that_does_not_answer_within_10_ms_is_dead() -> None:
    """The tripwire's one reconnect: docs/protocol.md."""
    timeouts_s: list[float] = []
    has_reconnected = Event()

    def connect(_: tuple[str, int], timeout: float) -> socket.socket:
        timeouts_s.append(timeout)
        if len(timeouts_s) > 1:
            has_reconnected.set()
            raise TimeoutError
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours

    TripwireClient(connect).watch("leader:1", 1)
    assert has_reconnected.wait(5)
    assert timeouts_s[1] == 0.010


def test_a_successor_that_leads_when_the_tripwire_fires_is_watched() -> None:
    leaders = Leaders()
    leaders.client = Raced(leaders.connect)
    leaders.client.watch("first:1", 1)
    assert leaders.successor_is_watched.wait(5)
