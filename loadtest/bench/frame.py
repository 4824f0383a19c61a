"""What all benches share: options, machine, system, warm-up, load, audit, report, exit code.

A bench is a function that gets a `BenchRun` and its own options, measures one system, and returns
a subclass of `BenchReport` with its figures. `bench_frame` makes a command of it:

    @click.command("example")
    @click.option("--rate", ...)
    @bench_frame(attachable=True)
    def bench_example(run: BenchRun, *, rate: float) -> ExampleReport:
        system = run.start()
        load = run.open_load(system)
        ...
        return ExampleReport(machine=run.machine, audit=load.findings(), ...)

`measure` runs such a function without publishing its report, for benches that need several runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from rich.console import Console, RenderableType

from loadtest.bench.warm_up import warm_up_broker
from loadtest.machine import Machine, this_machine
from loadtest.options import (
    REPORTS,
    attach_option,
    exit_with,
    json_option,
    output_option,
    replicas_option,
    seed_option,
)
from loadtest.system import BenchSystem, own_system, system_for, wait_until_settled
from loadtest.workload.audit import Findings
from loadtest.workload.load import Load, opened
from loadtest.workload.preload import Transfers
from loadtest.workload.replicas_check import ReplicasCheck, check_replicas

P = ParamSpec("P")
R = TypeVar("R", bound="BenchReport")


class BenchReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="bench"):
    """What a bench's JSON file holds; each bench adds its figures, and its name as the tag."""

    machine: Machine

    @property
    def file_prefix(self) -> str:
        return str(self.__struct_config__.tag)

    def tables(self) -> Sequence[RenderableType]:
        """The figures; text is in rich's markup."""
        raise NotImplementedError

    def verdict(self) -> list[str]:
        """Lines below the tables, in rich's markup: whether the checks passed."""
        return []

    def failures(self) -> list[str]:
        """What failed; the bench then exits with code 1, and its system's data is kept."""
        raise NotImplementedError


class AuditedReport(BenchReport, frozen=True, kw_only=True):
    """The report of a bench whose results are audited."""

    audit: Findings

    def verdict(self) -> list[str]:
        return [self.audit.summary()]

    def failures(self) -> list[str]:
        return self.audit.failures()


class CheckedReport(AuditedReport, frozen=True, kw_only=True):
    """The report of a bench whose replicas are compared at the end as well."""

    check: ReplicasCheck

    def verdict(self) -> list[str]:
        return [self.check.summary(), *super().verdict()]

    def failures(self) -> list[str]:
        return super().failures() + self.check.failures()


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`attach`: measure the running system instead of one with `replicas` replicas."""

    seed: int
    replicas: int = 3
    attach: bool = False


class BenchRun:
    """One measurement; everything that it starts is stopped when it ends."""

    def __init__(self, options: RunOptions, stack: ExitStack) -> None:
        self.seed, self.machine = options.seed, this_machine()
        self._options, self._stack = options, stack
        self._systems: list[BenchSystem] = []

    def start(self, shards: int = 1) -> BenchSystem:
        """The system to measure, in sync, with a broker that is warm."""
        options = self._options
        system = self._stack.enter_context(
            system_for(attach=options.attach, replicas=options.replicas, shards=shards)
        )
        self._systems.append(system)
        for shard in range(system.plan.shards):
            wait_until_settled(system, shard)
        warm_up_broker(system)
        return system

    def start_storage(self, replicas: int, shards: int = 1) -> BenchSystem:
        """A system of its own whose replicas have not been started."""
        system = self._stack.enter_context(own_system(replicas, shards, launch=False))
        self._systems.append(system)
        return system

    def open_load(self, system: BenchSystem, ledgers: int = 1) -> Load:
        """A load with open accounts that sends nothing yet."""
        return self._stack.enter_context(opened(Load(system, self.seed, ledgers)))

    def transfers(self, accounts: int, count: int) -> Transfers:
        return Transfers(accounts, count, self.seed)

    def check(self, system: BenchSystem, load: Load) -> ReplicasCheck:
        """Compare the replicas with each other and with the results of a load that has ended."""
        return check_replicas(system, load.balances_by_shard())

    def keep_data(self) -> None:
        """Do not delete the systems' data at the end."""
        for system in self._systems:
            system.keep = True


def measure(bench: Callable[[BenchRun], R], options: RunOptions) -> R:
    """Run a bench and return its report; the data is kept if the report has failures."""
    with ExitStack() as stack:
        run = BenchRun(options, stack)
        report = bench(run)
        if report.failures():
            run.keep_data()
    return report


def bench_frame(
    *, attachable: bool
) -> Callable[[Callable[Concatenate[BenchRun, P], BenchReport]], Callable[..., None]]:
    """Make a command's callback of a bench: adds the common options, publishes the report.

    `attachable`: the bench can measure a running system, and one of its own with any number of
    replicas (--attach, --replicas).
    """

    def decorate(bench: Callable[Concatenate[BenchRun, P], BenchReport]) -> Callable[..., None]:
        @seed_option
        @(_system_options if attachable else _no_options)
        @json_option
        @output_option
        @wraps(bench)
        def command(*, seed: int, as_json: bool, output: Path | None, **others: Any) -> None:
            system = {name: others.pop(name) for name in ("replicas", "attach") if attachable}
            report = measure(partial(bench, **others), RunOptions(seed=seed, **system))
            publish(report, as_json=as_json, output=output)
            exit_with(report.failures())

        return command

    return decorate


def _system_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return replicas_option(attach_option(command))


def _no_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return command


def publish(report: BenchReport, *, as_json: bool, output: Path | None) -> None:
    """Write the JSON file, whose directory `output_option` has checked; print to stdout."""
    data = msgspec.json.format(msgspec.json.encode(report))
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = output or REPORTS / f"{report.file_prefix}-{stamp}.json"
    path.write_bytes(data + b"\n")
    if as_json:
        sys.stdout.write(data.decode() + "\n")
        return
    console = Console(highlight=False)
    for table in (*report.tables(), *report.verdict(), f"JSON: {path}"):
        console.print(table, soft_wrap=isinstance(table, str))
