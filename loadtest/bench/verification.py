"""`bench verify`: how fast the auditor is, and what memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.options import report_options, seed_option
from loadtest.bench.report import Machine, conclude, publish, this_machine
from loadtest.bench_system import (
    Stage,
    own_stage,
    wait_until_settled,
)
from loadtest.progress import (
    show,
    step,
)
from loadtest.workload.preload import Transfers, preload_feed
from loadtest.workload.watcher import end_of
from postjournal.adapters.kafka.partition_reader import PartitionFinder
from postjournal.cli.errors import OperationFailed
from postjournal.verify.report import Report

SHARD = 0
POLL_S = 0.25
STALLED_S = 30.0


class VerificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. `seconds`: of the whole process, its start and all else included.

    `cpu_micros`: CPU microseconds per command; `memory_mb`: the process's highest resident set.
    """

    bench: str
    machine: Machine
    commands: int
    seconds: float
    commands_per_second: float
    cpu_micros: float
    memory_mb: float
    report: Report


@click.command("verify")
@click.option("--commands", type=click.IntRange(1_000, 50_000_000), default=1_000_000)
@click.option("--accounts", type=click.IntRange(2, 1_000_000), default=1_000, show_default=True)
@seed_option
@report_options
def bench_verify(
    *, commands: int, accounts: int, seed: int, as_json: bool, output: Path | None
) -> None:
    """Measure `./postjournal verify` on a journal of transfers (1,000,000 by default).

    A leader and a standby decide and publish them first; both still run while it is verified.
    """
    machine = this_machine()
    transfers = Transfers(uuid.uuid4().hex[:6], accounts, commands, seed)
    with own_stage(2, launch=False) as stage:
        preload_feed(stage, SHARD, transfers)
        with step("deciding and publishing them"):
            stage.launch_replicas()
            _wait_for_results(stage, len(transfers))
            wait_until_settled(stage, SHARD, same_seq=True)
        with step(f"verifying {len(transfers):,} commands"):
            report = _verify(stage, machine)
        stage.keep = not report.report.sound
    publish("verify", report, _tables(report), as_json=as_json, output=output)
    faults = [] if report.report.sound else [f"rules are broken: {report.report.shards[0].broken}"]
    if report.commands != len(transfers):
        faults.append(f"only {report.commands} of {len(transfers)} commands were verified")
    conclude(faults)


def _wait_for_results(stage: Stage, wanted: int) -> None:
    finder = PartitionFinder(stage.kafka)
    results, moved_s = 0, time.monotonic()
    try:
        while results < wanted:
            time.sleep(POLL_S)
            end = end_of(finder, stage.topics.sink_topics["results"], SHARD)
            if end > results:
                results, moved_s = end, time.monotonic()
            elif time.monotonic() - moved_s > STALLED_S:
                raise OperationFailed(f"no result came for {STALLED_S:g} s, after {results:,}")
            show(f"{results:,} of {wanted:,} results")
    finally:
        finder.close()


def _verify(stage: Stage, machine: Machine) -> VerificationReport:
    """In a process of its own, as people run it."""
    command = [sys.executable, "-m", "postjournal.cli", "verify", "--json"]
    command += ["--bootstrap", stage.bootstrap, "--namespace", stage.plan.namespace]
    begun_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun_s
    report = msgspec.json.decode(told, type=Report)
    return VerificationReport(
        bench="verify",
        machine=machine,
        commands=report.commands,
        seconds=round(seconds, 3),
        commands_per_second=round(report.commands / seconds, 1),
        cpu_micros=round((usage.ru_utime + usage.ru_stime) * 1e6 / report.commands, 2),
        memory_mb=round(usage.ru_maxrss / 1024, 1),
        report=report,
    )


def _tables(report: VerificationReport) -> list[RenderableType]:
    verdict = "[green]✔ sound[/]" if report.report.sound else "[red]✘ damaged[/]"
    return [
        f"[bold]{report.commands:,} commands verified in {report.seconds:.1f} s[/] "
        f"({report.commands_per_second:,.0f}/s; {report.cpu_micros:.1f} µs of CPU per command; "
        f"at most {report.memory_mb:.0f} MB): {verdict}"
    ]
