"""`bench latency`: from the source topic to the results topic."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.cpu import CpuMeter, Usage, usage
from loadtest.bench.echo import echo_ms
from loadtest.bench.options import report_options, seed_option, system_options
from loadtest.bench.report import (
    Machine,
    conclude,
    distribution_tables,
    findings_faults,
    findings_line,
    publish,
    this_machine,
)
from loadtest.bench.warm_up import warm_up_broker
from loadtest.bench_system import (
    Stage,
    stage_for,
    wait_until_settled,
)
from loadtest.progress import step
from loadtest.stats import (
    Distribution,
    distribution,
)
from loadtest.workload.audit import Findings
from loadtest.workload.load import Load, load_on
from postjournal.cli.options import Range

ECHO_S, ECHO_WARM_UP_S = 4.0, 1.0


class RateReport(msgspec.Struct, frozen=True, kw_only=True):
    """At one rate; all in ms.

    `latency`: from the time at which a command was to be sent (the schedule, so that a held-up
    sender hides nothing) to its result's being seen; `from_call`: from the call that sent it;
    `until_stamp`: from that call until Kafka's timestamp of the result, when the leader handed
    it to its producer (whole ms, cut off);
    `late`: how much later than intended that call came; `echo`: the same client at the same
    rate on a topic of its own, without the engine: its own share and one pass through Kafka.
    `cpu`: while it was measured.
    """

    rate: float
    latency: Distribution
    from_call: Distribution
    until_stamp: Distribution
    late: Distribution
    echo: Distribution
    cpu: Usage


class LatencyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the JSON file holds. Durations of `rates` in ms."""

    bench: str
    machine: Machine
    replicas: int
    seconds: float
    warm_up: float
    rates: list[RateReport]
    audit: Findings


@click.command("latency")
@click.option(
    "--rate",
    "rates",
    type=Range(1, 20_000),
    multiple=True,
    default=(1000, 200),
    show_default=True,
    help="Commands per second; may be given several times.",
)
@click.option("--seconds", type=Range(1, 3600), default=20, show_default=True)
@click.option("--warm-up", type=Range(0, 60), default=3, show_default=True, help="s")
@seed_option
@system_options
@report_options
def bench_latency(
    *,
    rates: tuple[float, ...],
    seconds: float,
    warm_up: float,
    seed: int,
    replicas: int,
    attach: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure the time from a command's sending to its result's being seen.

    An open loop: commands are sent by the clock, whatever the answers do, and each latency
    counts from the time at which its command was to be sent.
    """
    machine = this_machine()
    with stage_for(attach=attach, replicas=replicas) as stage:
        wait_until_settled(stage)
        measured = []
        warm_up_broker(stage)
        with load_on(stage, seed) as load:
            for rate in rates:
                measured.append(_measure(stage, load, rate, seconds, warm_up))
            findings = load.findings()
        stage.keep = not findings.ok
        report = LatencyReport(
            bench="latency",
            machine=machine,
            replicas=stage.plan.replicas,
            seconds=seconds,
            warm_up=warm_up,
            rates=measured,
            audit=findings,
        )
    tables = [table for each in measured for table in _tables(each)]
    tables.append(findings_line(findings))
    publish("latency", report, tables, as_json=as_json, output=output)
    conclude(findings_faults(findings))


def _measure(stage: Stage, load: Load, rate: float, seconds: float, warm_up: float) -> RateReport:
    with step(f"{rate:g}/s: without the engine"):
        echo = echo_ms(stage, rate, ECHO_S, ECHO_WARM_UP_S)
    with step(f"{rate:g}/s for {seconds:g} s"):
        load.run(rate, warm_up)
        meter = CpuMeter(stage.system.status())
        before = meter.read()
        positions = load.run(rate, seconds)
        cpu = usage(before, meter.read())
    latencies = load.latency_ms(positions)
    stamped = load.until_stamp_ms(positions)
    late = {position: load.sender.late_ns[position] / 1e6 for position in positions}
    return RateReport(
        rate=rate,
        latency=distribution([*latencies.values()]),
        from_call=distribution([ms - late[i] for i, ms in latencies.items()]),
        until_stamp=distribution(stamped),
        late=distribution([*late.values()]),
        echo=distribution(echo),
        cpu=cpu,
    )


def _tables(measured: RateReport) -> list[RenderableType]:
    rows = {
        "source to result": measured.latency,
        "  from the actual call": measured.from_call,
        "  until the result's Kafka timestamp": measured.until_stamp,
        "  sent later than intended": measured.late,
        "client and Kafka alone (echo)": measured.echo,
    }
    cores = ", ".join(f"{name} {used:.2f}" for name, used in measured.cpu.processes.items())
    title = f"{measured.rate:g} commands/s; cores used: {cores}"
    return distribution_tables(title, "ms", rows)
