"""The bounds of a replica."""

from __future__ import annotations

from dataclasses import dataclass

ENTRY_BYTES = 4_000_000
"""The last command of an entry may add `round_trip.EVENTS_BYTES`; Kafka takes 8 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a replica. Times in ms; the defaults are docs/design.md's."""

    batch_commands: int = 2_000  # commands in an entry, at most
    batch_bytes: int = 1_000_000  # source bytes in an entry, at most (one command may exceed it)
    entry_bytes: int = ENTRY_BYTES  # an entry that has so many takes no further command
    pipeline_entries: int = 4  # own entries not yet read back, at most
    pipeline_commands: int = 250  # a further entry in the pipeline is worth this many commands
    pending_commands: int = 200_000  # source records waiting for a decision: hold at this many
    pending_bytes: int = 64_000_000  # … or at this many bytes of them
    unpublished_outputs: int = 60_000  # outputs of a sink not acknowledged: stop deciding
    heartbeat_ms: int = 100  # a leader that appended nothing for this long shows life
    silence_ms: int = 400  # a leader not heard of for this long is suspected
    tripwire_grace_ms: int = 50  # records read this soon after a tripwire fired prove no life
    claim_retry_ms: int = 150  # a claim not read back for this long is repeated
    probe_retry_ms: int = 100  # the journal's end is asked for again after this long
    successor_grace_ms: int = 50  # others leave a resigned leader's successor this long
    readback_ms: int = 2_000  # acknowledged and not read back for this long: resign
    resign_ms: int = 1_000  # finish what is in flight for this long, then resign all the same
    snapshot_wait_ms: int = 2_000  # a leader waits this long for a moment with nothing in flight
    stop_ms: int = 3_000  # a stop takes at most this long
    dedupe_window: int = 100_000  # command ids remembered
