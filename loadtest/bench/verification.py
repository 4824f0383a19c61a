"""`bench verify`: how fast the auditor is, and how much memory it uses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.frame import BenchReport, BenchRun, bench_frame
from loadtest.options import accounts_option, number_option
from loadtest.progress import step
from loadtest.system import BenchSystem, wait_until_settled
from loadtest.workload.preload import count_results, preload_feed
from postjournal.verify.report import Report

SHARD = 0


class Cost(msgspec.Struct, frozen=True):
    """What a process used: its wall-clock time, CPU time, and highest resident set."""

    seconds: float
    cpu_s: float
    memory_kb: int


class VerificationReport(BenchReport, frozen=True, kw_only=True, tag="verify"):
    """`seconds`: of the whole process, including its start; `preloaded`: commands in the journal.

    `cpu_micros`: CPU microseconds per command; `memory_mb`: the process's highest resident set.
    """

    preloaded: int
    commands: int
    seconds: float
    commands_per_second: float
    cpu_micros: float
    memory_mb: float
    report: Report

    def tables(self) -> Sequence[RenderableType]:
        verdict = "[green]✔ sound[/]" if self.report.sound else "[red]✘ damaged[/]"
        return [
            f"[bold]{self.commands:,} commands verified in {self.seconds:.1f} s[/] "
            f"({self.commands_per_second:,.0f}/s; {self.cpu_micros:.1f} µs of CPU per command; "
            f"at most {self.memory_mb:.0f} MB): {verdict}"
        ]

    def failures(self) -> list[str]:
        found = []
        if not self.report.sound:
            found.append(f"rules are broken: {self.report.shards[0].broken}")
        if self.commands != self.preloaded:
            found.append(f"only {self.commands} of {self.preloaded} commands were verified")
        return found


@click.command("verify")
@number_option("--commands", click.IntRange(1_000, 50_000_000), 1_000_000)
@accounts_option
@bench_frame(attachable=False)
def bench_verify(run: BenchRun, *, commands: int, accounts: int) -> VerificationReport:
    """Measure `./postjournal verify` on a journal of transfers.

    A leader and a standby decide and publish them first; both still run while it is verified.
    """
    transfers = run.transfers(accounts, commands)
    system = run.start_storage(2)
    preload_feed(system, {SHARD: transfers})
    with step("deciding and publishing them"):
        system.launch_replicas()
        for _ in count_results(system, {SHARD: len(transfers)}):
            pass
        wait_until_settled(system, SHARD, same_seq=True)
    with step(f"verifying {len(transfers):,} commands"):
        report, cost = _verify(system)
    return VerificationReport(
        machine=run.machine,
        preloaded=len(transfers),
        commands=report.commands,
        seconds=round(cost.seconds, 3),
        commands_per_second=round(report.commands / cost.seconds, 1),
        cpu_micros=round(cost.cpu_s * 1e6 / report.commands, 2),
        memory_mb=round(cost.memory_kb / 1024, 1),
        report=report,
    )


def _verify(system: BenchSystem) -> tuple[Report, Cost]:
    """Run `verify` in a process of its own, as operators do."""
    command = [sys.executable, "-m", "postjournal.cli", "verify", "--json"]
    command += ["--bootstrap", system.kafka.bootstrap, "--namespace", system.plan.namespace]
    started_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, _, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started_s
    report = msgspec.json.decode(output, type=Report)
    return report, Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
