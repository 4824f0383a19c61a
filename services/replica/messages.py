"""The messages between the processes of a replica.

| from | to | message | when |
|---|---|---|---|
| engine | parent | `Begun` | before the first effect of an incarnation; it waits for `Known` |
| engine | parent | `Watch`, `Unwatch` | the leader of its shard to watch has changed |
| engine | parent | `Report` | a status record; it also shows that the engine's loop turns |
| parent | engine | `Known` | the tripwire of that incarnation is set |
| parent | engine | `Start` | the topics exist |
| parent | engine | `Fired` | the leader that it watches has died |
| parent | engine | `Stop` | resign, then exit |
| parent | HTTP | `Stop` | exit; all engines have ended |
| parent | engine | `Link` | a connection to the HTTP process, in place of the previous one |
| HTTP | parent | `Ready` | the topics exist, and the port is served |
| HTTP | parent | `Turning` | once a second: it works |
| HTTP | parent | `Crash` | a client has requested that the whole replica dies |
| parent | HTTP | `Engines` | what has become of the engines; once a second and at each change |
| parent | HTTP | `Report` | as received from an engine |
| parent | HTTP | `Link` | a connection to an engine, in place of the previous one |
| HTTP | engine | `Query`, `Scrape` | over the `Link` |
| engine | HTTP | `Answer`, `Samples` | over the `Link` |

An engine waits for `Known` only, the HTTP process for answers only, and the parent never.
"""

from __future__ import annotations

import msgspec


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    pass


# --- engine → parent ----------------------------------------------------------------------------


class Begun(_Message, frozen=True):
    """An incarnation begins; the engine holds its death lock."""

    incarnation: str


class Watch(_Message, frozen=True):
    """Report the death of `incarnation`, which leads `epoch` from `address` (host:port)."""

    address: str
    incarnation: str
    epoch: int


class Unwatch(_Message, frozen=True):
    """Watch no leader."""


class Report(_Message, frozen=True):
    """A status record of `shard`; `record`: as JSON, as in the status topic."""

    shard: int
    record: bytes


# --- parent → engine ----------------------------------------------------------------------------


class Known(_Message, frozen=True):
    """`incarnation` may claim."""

    incarnation: str


class Start(_Message, frozen=True):
    """The topics exist: connect and run. `last_end`: see `EngineState`.

    `fatal_offset`: see `ApplyGuard`.
    """

    last_end: str | None
    fatal_offset: int


class Fired(_Message, frozen=True):
    """The leader of `epoch` has died."""

    epoch: int


class Stop(_Message, frozen=True):
    """Exit; an engine that leads resigns before."""


class Link(_Message, frozen=True):
    """Comes with the descriptor of one end of a socket pair: HTTP process ↔ engine of `shard`."""

    shard: int

    @property
    def has_descriptor(self) -> bool:
        """See `Channel`."""
        return True


# --- HTTP process ↔ parent ----------------------------------------------------------------------


class Ready(_Message, frozen=True):
    """The engines may start."""


class Turning(_Message, frozen=True):
    """The HTTP process works."""


class Crash(_Message, frozen=True):
    """Kill the whole replica."""


class EngineState(msgspec.Struct, frozen=True):
    """One engine as its parent sees it.

    `pid`: None while it is not running; `ill`: why it is not live, None when it is; `ends`: how
    often engines of this shard ended since the replica started, by cause; `last_end`: how the
    previous one ended, None: there was none.
    """

    shard: int
    pid: int | None
    ill: str | None
    ends: dict[str, int]
    last_end: str | None


class Engines(_Message, frozen=True):
    """All engines; `parent`: the pid of the replica's main process."""

    parent: int
    engines: list[EngineState]


# --- HTTP process ↔ engine ----------------------------------------------------------------------


class Query(_Message, frozen=True):
    """See `core.messages.QueryRequested`; the `Answer` has the same `number`."""

    number: int
    query: dict[str, str]
    linearizable: bool
    min_seq: int
    timeout_ms: int


class Answer(_Message, frozen=True):
    """See `core.messages.Reply`. `result`: as JSON."""

    number: int
    result: bytes
    seq: int
    epoch: int
    error: str | None


class Scrape(_Message, frozen=True):
    """Requests the engine's metrics."""

    number: int


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value of a metric, as `prometheus_client.samples.Sample`."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """All values of a metric, as `prometheus_client.Metric`."""

    name: str
    documentation: str
    type: str
    samples: list[Sample]


class Samples(_Message, frozen=True):
    """The engine's metrics."""

    number: int
    families: list[Family]


FromEngine = Begun | Watch | Unwatch | Report
ToEngine = Known | Start | Fired | Stop | Link
FromHttp = Ready | Turning | Crash
ToHttp = Engines | Report | Link | Stop
OverLinkToEngine = Query | Scrape
OverLinkToHttp = Answer | Samples
