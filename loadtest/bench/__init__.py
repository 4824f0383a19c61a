"""`./postjournal bench …`: what the engine does under load and under faults, seen from outside."""

from __future__ import annotations

import click

from loadtest.bench.failover import bench_failover
from loadtest.bench.latency import bench_latency
from loadtest.bench.reads import bench_reads
from loadtest.bench.recovery import bench_recovery
from loadtest.bench.scale import bench_scale
from loadtest.bench.snapshot import bench_snapshot
from loadtest.bench.soak import bench_soak
from loadtest.bench.throughput import bench_throughput
from loadtest.bench.verification import bench_verify

__all__ = ["bench"]


@click.group()
def bench() -> None:
    """Measure the engine, and verify that nothing was lost or applied twice.

    Commands are sent directly into the source topic and the results topic is followed, as an
    external client does. Each bench starts Kafka and replicas of its own, in a temporary
    directory and on free ports, warms the broker up (a Java process is slow at first), and stops
    them at the end. With --attach it uses the system that `./postjournal up` started, whose other
    services then take their share of the CPU.
    Exit code 1: something was lost, doubled, missing or wrong.
    """


for command in (
    bench_failover,
    bench_latency,
    bench_throughput,
    bench_scale,
    bench_soak,
    bench_recovery,
    bench_snapshot,
    bench_reads,
    bench_verify,
):
    bench.add_command(command)
