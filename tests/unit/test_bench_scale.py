"""The figures and tables of `bench scale`, and its limits in a directory like a cgroup mount."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.bench.cpu import Reading
from loadtest.bench.cpu_limit import CannotLimit, CpuLimit, Hierarchy, find_hierarchy
from loadtest.bench.members import Kind, Member, member_of
from loadtest.bench.scale import ScaleReport
from loadtest.bench.scale_idle import Idle, IdleProcess, Start
from loadtest.bench.scale_tables import natural, value_range
from loadtest.bench.scale_throughput import (
    Sample,
    Throughput,
    costs_of,
    micros_by_kind,
    rates_together,
    scaling_of,
)
from loadtest.machine import Machine
from loadtest.workload.audit import Findings
from loadtest.workload.preload import key_of
from postjournal.core.sharding import shard_of

MACHINE = Machine(
    cpus=2,
    load=0.0,
    python_step_ns=1.0,
    system="",
    python="",
    confluent_kafka="",
    librdkafka="",
    started="",
)
ENGINES = [Member("replica-1 shard 0", Kind.ENGINE, 0), Member("replica-1 shard 1", Kind.ENGINE, 1)]
MEMBERS = [Member("replica-1 parent", Kind.PARENT), *ENGINES]
ENDS = {0: 1_000, 1: 1_000}


def findings(**numbers: int) -> Findings:
    zeros = {name: 0 for name in Findings.__struct_fields__ if name != "examples"}
    return Findings(**(zeros | numbers), examples=[])


def sample(at_s: float, results: tuple[int, int], used_s: tuple[float, float, float]) -> Sample:
    used = {member.name: used for member, used in zip(MEMBERS, used_s, strict=True)}
    return Sample(dict(enumerate(results)), Reading(at_s, used, {}))


def stamps(*parts: Sequence[int]) -> list[array[int]]:
    return [array("q", part) for part in parts]


def throughput(
    shards: int, times_ms: Sequence[int], micros: float | None, limit: float | None = None
) -> Throughput:
    return Throughput(
        machine=MACHINE,
        audit=findings(sent=10, outcomes=10),
        shards=shards,
        replicas=1,
        limit=limit,
        commands=1_000,
        accounts=10,
        rates=rates_together(stamps(times_ms)),
        micros={} if micros is None else {Kind.ENGINE: micros},
        costs=[],
        problems=[],
    )


def idle(problems: list[str]) -> Idle:
    engine = IdleProcess(
        process="replica-1 shard 0", kind=Kind.ENGINE, percent=0.2, memory_mb=26.0, threads=29
    )
    return Idle(
        machine=MACHINE,
        shards=1,
        replicas=1,
        seconds=1.0,
        percent=0.2,
        processes=[engine],
        start=Start(first_s=1.5, all_s=4.0),
        problems=problems,
    )


def report(points: list[Throughput], idles: list[Idle], reason: str | None = None) -> ScaleReport:
    return ScaleReport(
        machine=MACHINE,
        not_limited=reason,
        throughput=points,
        scaling=scaling_of(points),
        idle=idles,
    )


def printed(found: ScaleReport) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        for table in (*found.tables(), *found.verdict()):
            console.print(table)
    return capture.get()


# --- rates --------------------------------------------------------------------------------------


def test_the_rate_is_of_all_shards_while_all_are_at_work() -> None:
    early, late = range(0, 2_001, 2), range(1_000, 3_001, 4)
    rates = rates_together(stamps(early, late))
    assert rates is not None
    assert rates.seconds == 1.0
    assert rates.whole == pytest.approx(500 + 250, abs=2)


@pytest.mark.parametrize("parts", [([0, 1], [2, 3]), ([0, 1], []), ([0, 999],), ()])
def test_shards_that_were_at_work_together_for_less_than_a_second_have_no_rate(
    parts: tuple[Sequence[int], ...],
) -> None:
    assert rates_together(stamps(*parts)) is None


def test_each_number_of_shards_is_compared_with_the_first_one_of_its_limit() -> None:
    slow, fast = range(0, 1_001, 10), range(0, 1_001, 5)
    points = [
        throughput(1, slow, 10.0, limit=0.4),
        throughput(2, fast, 11.0, limit=0.4),
        throughput(1, fast, 8.0, limit=0.8),
        throughput(2, fast, None, limit=0.8),
        throughput(4, [], 8.0, limit=0.8),
    ]
    found = [(row.shards, row.rate, row.engine_micros) for row in scaling_of(points)]
    assert found == [(1, 1.0, 1.0), (2, 2.0, 1.1), (1, 1.0, 1.0), (2, 1.0, None), (4, None, 1.0)]


# --- CPU time -----------------------------------------------------------------------------------


def test_an_engines_cpu_time_is_per_command_of_its_shard_and_the_others_per_command() -> None:
    samples = [
        sample(0.0, (100, 0), (9.0, 9.0, 9.0)),  # shard 1 is not at work yet
        sample(1.0, (200, 100), (10.0, 10.0, 10.0)),
        sample(3.0, (600, 200), (10.1, 10.4, 10.2)),
        sample(4.0, (1_000, 300), (99.0, 99.0, 99.0)),  # shard 0 is done
    ]
    costs = costs_of(samples, ENDS, MEMBERS)
    assert [(cost.commands, cost.micros, cost.cores) for cost in costs] == [
        (500, 200.0, 0.05),
        (400, 1_000.0, 0.2),
        (100, 2_000.0, 0.1),
    ]
    assert micros_by_kind(costs) == {Kind.PARENT: 200.0, Kind.ENGINE: 1_200.0}


def test_a_run_with_all_shards_at_work_for_less_than_a_second_has_no_costs() -> None:
    samples = [sample(0.0, (100, 100), (0, 0, 0)), sample(0.9, (900, 500), (1, 1, 1))]
    assert costs_of(samples, ENDS, MEMBERS) == []
    assert costs_of([sample(0.0, (0, 9), (0, 0, 0))], ENDS, MEMBERS) == []
    assert micros_by_kind([]) == {}


def test_a_replicas_process_is_known_by_its_module() -> None:
    python = ["/usr/bin/python", "-m"]
    engine = [*python, "services.replica.engine", "12", "14", "13", "100", "7", "19229"]
    http = [*python, "services.replica.http_process", "9", "11", "10", "100", "6", "19229"]
    assert member_of("r", engine) == Member("r shard 7", Kind.ENGINE, 7)
    assert member_of("r", http) == Member("r HTTP", Kind.HTTP)
    assert member_of("r", [*python, "services.replica"]) is None


# --- the load -----------------------------------------------------------------------------------


def test_each_shard_gets_commands_of_a_ledger_that_belongs_to_it() -> None:
    for shards in (1, 2, 16):
        keys = [key_of(shard, shards) for shard in range(shards)]
        assert [shard_of(key, shards) for key in keys] == [*range(shards)]


def test_the_audit_of_all_shards_is_the_sum_of_theirs() -> None:
    parts = [findings(sent=10, outcomes=9, lost=1), findings(sent=5, outcomes=5)]
    total = Findings.sum_of(parts)
    assert (total.sent, total.outcomes, total.lost, total.ok) == (15, 14, 1, False)
    assert Findings.sum_of(parts[1:]).ok


# --- the report ---------------------------------------------------------------------------------


def test_the_report_shows_ratios_ranges_and_the_audit() -> None:
    points = [throughput(1, range(0, 1_001, 10), 10.0), throughput(2, range(0, 1_001, 5), 11.0)]
    text = printed(report(points, [idle([])]))
    for shown in ("×1.00", "×2.00", "×1.10", "26.0", "2.50 s", "audit: 20 sent"):
        assert shown in text


def test_a_limit_that_is_skipped_is_in_the_report_with_its_reason() -> None:
    text = printed(report([throughput(1, [], None)], [], "not root"))
    assert "--limit is skipped: not root" in text
    assert "use more --commands" in text
    assert "compare the CPU time per command" in " ".join(text.split())


def test_a_report_fails_with_the_failures_of_all_its_parts() -> None:
    assert report([throughput(1, [], None)], [idle([])]).failures() == []
    assert report([], [idle(["restarted"])]).failures() == ["restarted"]
    assert report([], []).verdict() == []


def test_a_range_of_equal_values_is_one_value() -> None:
    assert [value_range(values, 1) for values in ([], [1.0, 1.01], [1, 3, 2])] == [
        "-",
        "1.0",
        "1.0–3.0",
    ]
    assert sorted(["a 10", "a 9", "b"], key=natural) == ["a 9", "a 10", "b"]


# --- limits -------------------------------------------------------------------------------------


def mounts(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "mounts"
    file.write_text("".join(f"{line} 0 0\n" for line in ("/dev/vda / ext4 rw", *lines)))
    return file


def test_limits_use_the_hierarchy_that_has_the_cpu_controller(tmp_path: Path) -> None:
    unified, cpu = tmp_path / "unified", tmp_path / "cpu,cpuacct"
    unified.mkdir()
    both = (f"cgroup2 {unified} cgroup2 rw", f"cgroup {cpu} cgroup rw,cpu,cpuacct")
    assert find_hierarchy(mounts(tmp_path, *both)) == Hierarchy(cpu, 1)
    (unified / "cgroup.controllers").write_text("cpuset cpu io\n")
    assert find_hierarchy(mounts(tmp_path, *both)) == Hierarchy(unified, 2)


def test_a_machine_without_the_cpu_controller_cannot_limit(tmp_path: Path) -> None:
    cpuset = f"cgroup {tmp_path} cgroup rw,cpuset,cpuacct"
    with pytest.raises(CannotLimit, match="no cgroup hierarchy with the cpu controller"):
        find_hierarchy(mounts(tmp_path, cpuset))
    with pytest.raises(CannotLimit, match="no cgroups"):
        find_hierarchy(tmp_path / "absent")


def group_of(root: Path, pid: int) -> dict[str, str]:
    group = root / f"postjournal-bench-{os.getpid()}-{pid}"
    return {file.name: file.read_text() for file in group.iterdir()}


def test_each_process_gets_a_cgroup_of_its_own_with_its_share(tmp_path: Path) -> None:
    limit = CpuLimit(Hierarchy(tmp_path, 1), 0.4)
    limit.add(101)
    assert group_of(tmp_path, 101) == {
        "cpu.cfs_period_us": "20000",
        "cpu.cfs_quota_us": "8000",
        "cgroup.procs": "101",
    }


def test_cgroups_of_version_2_get_the_cpu_controller_first(tmp_path: Path) -> None:
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("memory\n")
    limit = CpuLimit(Hierarchy(tmp_path, 2), 0.25)
    limit.add(101)
    assert control.read_text() == "+cpu"
    assert group_of(tmp_path, 101) == {"cpu.max": "5000 20000", "cgroup.procs": "101"}


def test_a_mount_that_cannot_be_written_is_a_reason_not_to_limit(tmp_path: Path) -> None:
    with pytest.raises(CannotLimit, match="limits need root"):
        CpuLimit(Hierarchy(tmp_path / "absent", 1), 0.4)
