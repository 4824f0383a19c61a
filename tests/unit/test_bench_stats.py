"""Percentiles, silences, rates and lags of constructed data."""

from __future__ import annotations

import os
from array import array

import pytest

from loadtest.bench import cpu
from loadtest.bench.cpu import (
    ENGINE_THREAD,
    LIBRDKAFKA,
    OTHER_THREADS,
    Reading,
    Thread,
    micros_per_command,
    usage,
)
from loadtest.bench.throughput_results import lag_at, rates_of
from loadtest.bench.warm_up import MIN_ROUNDS, is_steady
from loadtest.stats import (
    Gap,
    distribution,
    longest_gap,
    percentile,
)
from loadtest.system import is_settled
from loadtest.workload.replicas_check import ReplicasCheck
from postjournal.cli.errors import OperationFailed
from postjournal.cli.local.status import ReplicaRow, ServiceRow, SystemStatus


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, p) for p in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert [percentile([1.0, 2.0, 9.0], p) for p in (1, 50, 99)] == [1, 2, 9]


def test_a_distribution_is_of_values_in_any_order() -> None:
    found = distribution([3.0, 1.0, 2.0])
    assert (found.count, found.p50, found.max, found.mean) == (3, 2.0, 3.0, 2.0)


def test_a_distribution_of_nothing_is_an_error_that_names_the_reason() -> None:
    with pytest.raises(OperationFailed, match="nothing was measured"):
        distribution([])


def test_the_longest_silence_is_between_two_results() -> None:
    assert longest_gap([0, 5, 10, 40, 45, 50], 10, 50) == Gap(10, 40)


def test_a_silence_that_began_before_the_event_counts_whole() -> None:
    assert longest_gap([0, 5, 30, 35], 10, 35) == Gap(5, 30)


def test_a_silence_elsewhere_does_not_count() -> None:
    assert longest_gap([0, 100, 105, 110, 300], 101, 110) == Gap(100, 105)


def test_a_silence_that_goes_on_counts_up_to_the_next_result_or_the_end() -> None:
    assert longest_gap([0, 5, 90], 5, 50) == Gap(5, 90)
    assert longest_gap([0, 5], 5, 50) == Gap(5, 50)


def test_no_result_at_all_is_one_long_silence() -> None:
    assert longest_gap([], 10, 50) == Gap(10, 50)
    assert longest_gap([60], 10, 50) == Gap(10, 60)


def test_rates_are_over_the_whole_run_and_its_steady_part() -> None:
    slow_start = [0] + [1000 + i for i in range(1000)]
    rates = rates_of(array("q", slow_start))
    assert rates.seconds == 1.999
    assert rates.whole == pytest.approx(1000 / 1.999, abs=0.1)
    assert rates.steady == pytest.approx(1000, abs=2)
    assert rates.per_second == [1, 1000]


def test_a_standbys_lag_is_the_age_of_the_first_result_that_it_lacks() -> None:
    stamps = array("q", range(1000, 2000, 10))
    assert lag_at(1500, 20, stamps) == (0.5, 0.3)
    assert lag_at(1500, 50, stamps) == (0.5, 0.0)
    assert lag_at(1500, 100, stamps) == (0.5, 0.0)


def test_lag_is_not_measured_before_or_after_the_run() -> None:
    stamps = array("q", (1000, 2000))
    assert lag_at(999, 0, stamps) is None
    assert lag_at(2001, 0, stamps) is None


def test_cpu_is_measured_per_second_and_per_command() -> None:
    before = Reading(10.0, {"leader": 1.0, "others": 5.0}, {"1": Thread(False, 0.9)})
    threads = {"1": Thread(False, 1.0), "2": Thread(False, 1.5), "3": Thread(True, 0.5)}
    after = Reading(12.0, {"leader": 3.0, "others": 4.9}, threads)
    cores = usage(before, after)
    assert cores.processes == {"leader": 1.0, "others": 0.0}
    assert cores.threads == {ENGINE_THREAD: 0.75, LIBRDKAFKA: 0.25, OTHER_THREADS: 0.05}
    assert micros_per_command(before, after, 1000).processes["leader"] == 2000.0


def test_the_clients_cpu_time_is_without_the_system_that_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "tree_cpu_time_s", lambda _: 7.0)
    monkeypatch.setattr(cpu, "cpu_time_s", lambda _: 1.0)
    kafka = ServiceRow(address=None, pid=os.getpid(), state="running")
    leader = ReplicaRow(
        name="a", pid=os.getpid(), state="leader", shard=0, epoch=1, http="", tripwire=""
    )
    status = SystemStatus(mode="local", replicas=[leader], services={"kafka": kafka})
    used = cpu.CpuMeter(status).read().used_s
    assert (used["leader"], used["broker"], used[cpu.CLIENT]) == (7.0, 7.0, 1.0)


def row(name: str, state: str, epoch: int = 3, seq: int = 100) -> ReplicaRow:
    return ReplicaRow(
        name=name, pid=1, state=state, shard=0, epoch=epoch, seq=seq, http="", tripwire=""
    )


def test_a_shard_is_settled_with_one_leader_and_all_others_close_behind() -> None:
    assert is_settled([row("a", "leader"), row("b", "standby", seq=95)], slack=5)
    assert not is_settled([row("a", "leader"), row("b", "standby", seq=94)], slack=5)
    assert not is_settled([row("a", "leader"), row("b", "catching_up")], slack=5)
    assert not is_settled([row("a", "leader"), row("b", "leader")], slack=5)
    assert not is_settled([row("a", "standby"), row("b", "standby")], slack=5)
    assert not is_settled([row("a", "leader"), row("b", "standby", epoch=2)], slack=5)


def test_replicas_that_differ_are_found() -> None:
    def check(digests: dict[str, str], *differences: str) -> ReplicasCheck:
        return ReplicasCheck(
            digests={0: digests}, balances_compared=0, differences=list(differences)
        )

    assert check({"a": "x", "b": "x"}).ok
    assert not check({"a": "x", "b": "y"}).ok
    assert not check({"a": "x", "b": "x"}, "b: account has 1, but 2 in the results").ok


def test_a_broker_is_warm_when_two_rounds_in_a_row_gain_little() -> None:
    first = [100.0] * (MIN_ROUNDS - 3)
    assert not is_steady(first)
    assert not is_steady([*first, 100, 60, 58])
    assert is_steady([*first, 60, 58, 57])
    assert is_steady([*first, 60, 62, 61])
