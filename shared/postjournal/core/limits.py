"""The bounds of a replica."""

from __future__ import annotations

from dataclasses import dataclass

ENTRY_BYTES = 4_000_000
"""The last command of an entry may add `round_trip.EVENTS_BYTES`; Kafka takes 8 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a replica. Times in ms; docs/design.md has the reasons of the defaults."""

    batch_commands: int = 2_000  # commands in an entry, at most
    batch_bytes: int = 1_000_000  # source bytes in an entry, at most (one command may exceed it)
    entry_bytes: int = ENTRY_BYTES  # an entry that is this large takes no further command
    pipeline_entries: int = 4  # own entries not yet read back, at most
    pipeline_commands: int = 250  # a further entry in the pipeline is worth this many commands
    pending_commands: int = 200_000  # source records not yet decided: pause at this many
    pending_bytes: int = 64_000_000  # or at this many bytes of them
    unpublished_outputs: int = 60_000  # outputs of a sink not acknowledged: stop deciding
    heartbeat_ms: int = 100  # after this long without an append a heartbeat follows
    silence_ms: int = 400  # without an accepted record for this long: suspect the leader
    tripwire_grace_ms: int = 50  # records this soon after a fired tripwire prove nothing
    claim_retry_ms: int = 150  # a claim not read back for this long is repeated
    probe_retry_ms: int = 100  # the journal's end is asked for again after this long
    successor_grace_ms: int = 50  # others leave a resigned leader's successor this long
    readback_ms: int = 2_000  # acknowledged and not read back for this long: resign
    stall_ms: int = 10_000  # a sink without progress for this long, while the journal has some
    impaired_ms: int = 60_000  # a leader that resigned because of that is the last to claim
    impaired_grace_ms: int = 500  # it leaves a vacant leadership to the others this long
    resign_ms: int = 1_000  # finish what is in flight for at most this long, then resign
    snapshot_wait_ms: int = 2_000  # a leader waits this long for a moment with nothing in flight
    stop_ms: int = 3_000  # a stop takes at most this long
    dedupe_window: int = 100_000  # command ids remembered
