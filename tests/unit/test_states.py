"""The predicates of the shared states agree with each other."""

from __future__ import annotations

import msgspec

from postjournal.cluster.states import (
    FailoverCause,
    FailoverPhase,
    ReplicaState,
    SnapshotState,
    ends_snapshot,
    is_final,
    is_in_sync,
    leads,
    serves_reads,
)
from postjournal.cluster.status import Failover, SnapshotProgress
from postjournal.core.messages import SnapshotProgressed, TookOver


def test_a_leading_replica_is_in_sync_and_one_that_serves_reads_too() -> None:
    for state in ReplicaState:
        assert is_in_sync(state) or not leads(state)
        assert is_in_sync(state) or not serves_reads(state)
    assert {state for state in ReplicaState if leads(state)} == {"leader", "resigning"}
    assert not is_in_sync("a state of a newer release")


def test_a_failed_attempt_is_final_but_does_not_end_the_snapshot() -> None:
    assert {state for state in SnapshotState if is_final(state)} == {"done", "failed"}
    assert {state for state in SnapshotState if ends_snapshot(state)} == {"done", "given_up"}


def test_a_failover_has_the_duration_of_every_phase() -> None:
    failover = Failover(
        shard=0,
        epoch=2,
        previous="r1",
        leader="r2",
        cause=FailoverCause.TRIPWIRE,
        detect_ms=1.0,
        claim_ms=2.0,
        resume_ms=3.0,
        total_ms=6.0,
        time=0,
    )
    assert [failover.duration_ms(phase) for phase in FailoverPhase] == [1.0, 2.0, 3.0, 6.0]
    assert failover.summary.startswith("shard 0: r2 took over from r1 in 6 ms")
    first = msgspec.structs.replace(failover, previous=None)
    assert first.summary.startswith("shard 0: r2 took over in 6 ms")


def test_the_status_records_have_the_fields_of_the_engines_messages() -> None:
    """`ShardRunner` copies them field by field."""
    for message, record in ((TookOver, Failover), (SnapshotProgressed, SnapshotProgress)):
        assert set(message.__struct_fields__) <= set(record.__struct_fields__)
