"""The interface between engine and application; users import it from `postjournal.app`.

Everything here runs on every replica and must be a pure function of its arguments: no clock, no
randomness, no I/O, no iteration over unordered sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import msgspec

from postjournal.core.records import MAX_ID_LENGTH, Outcome

S = TypeVar("S")
C = TypeVar("C", bound="Command")
E = TypeVar("E")


class Command(msgspec.Struct, tag_field="type", gc=False, frozen=True, kw_only=True):
    """Base of an application's commands. `type`: the tag; `id`: 1-128 characters, by which a
    repeat is recognized."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]


class Event(msgspec.Struct, tag_field="type", gc=False, frozen=True):
    """Base of an application's events."""


class Output(msgspec.Struct, gc=False, kw_only=True):
    """Base of the records of a sink. The engine sets `seq`: dense from 0, per sink and shard.

    `seq` is keyword-only here, so that a subclass's own fields can be given by position.
    """

    seq: int = -1


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Returned by `decide` instead of events; `reason`: a stable word of 1-64 characters."""

    reason: str


class Context(msgspec.Struct, gc=False):
    """What a decision may use besides state and command; valid only during the call.

    `time`: the journal's clock, ms since the Unix epoch; `id`: the command's; `shard`: from 0.
    """

    time: int
    shard: int
    id: str = ""


class Application(Generic[S, C, E]):
    """A replicated state machine. Subclass it; name the class in POSTJOURNAL_APP.

    `command_type` and `event_type` are msgspec types (a union of tagged structs, usually);
    `sources` are topic names without the namespace; `schema_version` is that of `dump`;
    `output_types`: sink → type of its outputs, for the documents about the topics.
    """

    command_type: ClassVar[Any]
    event_type: ClassVar[Any]
    sources: ClassVar[tuple[str, ...]] = ("commands",)
    schema_version: ClassVar[int] = 1
    state_type: ClassVar[Any] = Any
    output_types: ClassVar[Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        """The application's name in snapshots; a snapshot of another name is refused."""
        return type(self).__name__

    def initial_state(self) -> S:
        """Return the state before the first command."""
        raise NotImplementedError

    def decide(self, state: S, command: C, context: Context) -> Sequence[E] | Rejected:
        """Return the events that `command` causes, all or none of them, or why it is rejected.

        Must not change `state`. An exception rejects the command (reason `failed`) and sends it
        to the dead-letter topic.
        """
        raise NotImplementedError

    def evolve(self, state: S, event: E) -> None:
        """Apply one event to `state`, in place. An exception halts the shard."""
        raise NotImplementedError

    @property
    def sinks(self) -> Mapping[str, Callable[[Outcome[E], Context], Iterable[Output]]]:
        """Sink name → function from (outcome, context) to the sink's outputs for it.

        The context has time and shard, no id. For a repeated command `outcome` is the first one,
        with `replayed` set. A sink does not see the state: events carry what it needs. So a
        repeat is answered exactly as the first time, and a standby need not create outputs that
        the leader publishes.
        """
        return {}

    def query(self, state: S, query: Mapping[str, str]) -> object | None:
        """Answer a read from `state`; None: not found. The answer must be JSON-encodable."""
        raise NotImplementedError

    def export(self, state: S) -> object:
        """Return what `./postjournal replay --export` writes of the state, as JSON."""
        return state

    def dump(self, state: S) -> Iterable[bytes]:
        """Return the state for a snapshot, in pieces; by default one, its JSON.

        Called in a forked process: no locks, threads or I/O. Equal states must give equal
        pieces. Yield pieces of about 100 kB, so that a large state is never in memory twice.
        """
        yield msgspec.json.encode(state)

    def load(self, schema_version: int, pieces: Iterable[bytes]) -> S:
        """Return the state from the pieces that `schema_version` of this application dumped.

        Increase `schema_version` when `dump` changes, and read every older one here: that is the
        upgrade path. By default JSON of `state_type`, in the current version only.
        """
        if schema_version != self.schema_version:
            raise NotImplementedError(
                f"{self.name} does not upgrade schema {schema_version}: override `load`"
            )
        return msgspec.json.decode(b"".join(pieces), type=self.state_type)  # type: ignore[no-any-return]
