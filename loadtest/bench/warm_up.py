"""A Java broker that has just started is slow: its hot paths are still being compiled."""

from __future__ import annotations

import psutil

from loadtest.bench.echo import echo_ms
from loadtest.bench_system import Stage
from loadtest.progress import (
    show,
    step,
)

ROUND_S, RATE = 3.0, 2_000
ROUNDS_LEAST, ROUNDS_MOST = 8, 12
STEADY = 0.9
"""A round that costs more than this part of the one before it has gained little."""


def warm_up_broker(stage: Stage) -> None:
    """Keep a broker of the bench's own busy until a record's cost has stopped falling.

    That takes some 20-40 s on two cores; on a machine that others use as well, costs vary too
    much to tell earlier. A broker that has been running for long (--attach) is left alone.
    """
    pid = stage.system.status().services["kafka"].pid
    if not stage.own or pid is None:
        return
    broker, costs = psutil.Process(pid), list[float]()
    with step("warming up the broker: Java is still compiling it"):
        while len(costs) < ROUNDS_MOST and not is_steady(costs):
            before_s = _used_s(broker)
            records = len(echo_ms(stage, RATE, ROUND_S, 0))
            costs.append((_used_s(broker) - before_s) / max(records, 1))
            show(f"warming up the broker: {costs[-1] * 1e6:.0f} µs of CPU per record")


def is_steady(costs: list[float]) -> bool:
    """Whether each of the last two rounds cost nearly as much as the one before it."""
    if len(costs) < ROUNDS_LEAST:
        return False
    return all(costs[i] >= costs[i - 1] * STEADY for i in (-1, -2))


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
