"""Warming up a Java broker: it is slow until its hot paths are compiled."""

from __future__ import annotations

import psutil

from loadtest.bench.cpu import cpu_time_s
from loadtest.bench.echo import echo_ms
from loadtest.progress import show_status, step
from loadtest.system import BenchSystem

ROUND_S, RATE = 3.0, 2_000
MIN_ROUNDS, MAX_ROUNDS = 8, 12
STEADY = 0.9
"""A round is steady if it costs more than this share of the round before it."""


def warm_up_broker(system: BenchSystem) -> None:
    """Load the broker of a system of its own until the CPU cost of a record stops falling.

    That takes 20-40 s on two cores; on a shared machine costs vary too much to decide sooner. The
    broker of an attached system is assumed to be warm.
    """
    pid = system.status().services["kafka"].pid
    if not system.own or pid is None:
        return
    broker, costs = psutil.Process(pid), list[float]()
    with step("warming up the broker: Java is still compiling it"):
        while len(costs) < MAX_ROUNDS and not is_steady(costs):
            before_s = cpu_time_s(broker)
            records = len(echo_ms(system, RATE, ROUND_S, 0))
            costs.append((cpu_time_s(broker) - before_s) / max(records, 1))
            show_status(f"warming up the broker: {costs[-1] * 1e6:.0f} µs of CPU per record")


def is_steady(costs: list[float]) -> bool:
    """Whether each of the last two rounds cost nearly as much as the one before it."""
    if len(costs) < MIN_ROUNDS:
        return False
    return all(costs[i] >= costs[i - 1] * STEADY for i in (-1, -2))
