"""`bench latency`: from the source topic to the results topic."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from rich.console import RenderableType

from loadtest.bench.cpu import CpuMeter, Usage, usage
from loadtest.bench.echo import echo_ms
from loadtest.bench.frame import AuditedReport, BenchRun, bench_frame
from loadtest.bench.tables import cores_text, distribution_tables
from loadtest.options import number_option
from loadtest.progress import step
from loadtest.stats import Distribution, distribution
from loadtest.system import BenchSystem
from loadtest.workload.load import Load
from postjournal.cli.options import Range

ECHO_S, ECHO_WARM_UP_S = 4.0, 1.0


class RateReport(msgspec.Struct, frozen=True, kw_only=True):
    """At one rate; all in ms.

    `latency`: from the time at which a command was to be sent (the schedule, so that a delayed
    sender hides nothing) until its result is seen; `from_call`: from the call that sent it;
    `until_stamp`: from that call until Kafka's timestamp of the result, when the leader passed
    it to its producer (whole ms, rounded down);
    `late`: how much later than intended that call came; `echo`: the same client at the same
    rate on a topic of its own, without the engine: its own share and one pass through Kafka.
    `cpu`: during the measurement.
    """

    rate: float
    latency: Distribution
    from_call: Distribution
    until_stamp: Distribution
    late: Distribution
    echo: Distribution
    cpu: Usage

    def tables(self) -> Sequence[RenderableType]:
        rows = {
            "source to result": self.latency,
            "  from the actual call": self.from_call,
            "  until the result's Kafka timestamp": self.until_stamp,
            "  sent later than intended": self.late,
            "client and Kafka alone (echo)": self.echo,
        }
        title = f"{self.rate:g} commands/s; {cores_text(self.cpu)}"
        return distribution_tables(title, "ms", rows)


class LatencyReport(AuditedReport, frozen=True, kw_only=True, tag="latency"):
    """Durations of `rates` in ms."""

    replicas: int
    seconds: float
    warm_up: float
    rates: list[RateReport]

    def tables(self) -> Sequence[RenderableType]:
        return [table for report in self.rates for table in report.tables()]


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
@number_option("--seconds", Range(1, 3600), 20, "Of each measurement.")
@number_option("--warm-up", Range(0, 60), 3, "Seconds before each measurement.")
@bench_frame(attachable=True)
def bench_latency(
    run: BenchRun, *, rates: tuple[float, ...], seconds: float, warm_up: float
) -> LatencyReport:
    """Measure the time from sending a command until its result is seen.

    An open loop: commands are sent by the clock, whatever the answers do, and each latency
    counts from the time at which its command was to be sent.
    """
    system = run.start()
    load = run.open_load(system)
    measured = [_measure(system, load, rate, seconds, warm_up) for rate in rates]
    return LatencyReport(
        machine=run.machine,
        audit=load.findings(),
        replicas=system.plan.replicas,
        seconds=seconds,
        warm_up=warm_up,
        rates=measured,
    )


def _measure(
    system: BenchSystem, load: Load, rate: float, seconds: float, warm_up: float
) -> RateReport:
    with step(f"{rate:g}/s: without the engine"):
        echo = echo_ms(system, rate, ECHO_S, ECHO_WARM_UP_S)
    with step(f"{rate:g}/s for {seconds:g} s"):
        load.run(rate, warm_up)
        meter = CpuMeter(system.status())
        before = meter.read()
        positions = load.run(rate, seconds)
        cpu = usage(before, meter.read())
    latencies = load.latency_ms(positions)
    late = {position: load.sender.late_ns[position] / 1e6 for position in positions}
    return RateReport(
        rate=rate,
        latency=distribution([*latencies.values()]),
        from_call=distribution([ms - late[i] for i, ms in latencies.items()]),
        until_stamp=distribution(load.until_stamp_ms(positions)),
        late=distribution([*late.values()]),
        echo=distribution(echo),
        cpu=cpu,
    )
