"""What a terminal shows during a chaos run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Reversible

from rich.console import RenderableType
from rich.table import Table

from loadtest.chaos.load import ChaosLoad
from loadtest.faults.schedule_runner import InjectedFault, ScheduleRunner
from loadtest.progress import live_display, print_line

POLL_S = 0.5
BARS = " ▁▂▃▄▅▆▇█"
SPARK_S = 60
RECENT_STATUSES = 200


class LiveView:
    """Processes what is seen twice a second; prints a line for each fault, and draws a table."""

    def __init__(self, load: ChaosLoad, runner: ScheduleRunner, seconds: float) -> None:
        self._load, self._runner, self._seconds = load, runner, seconds
        self._printed = 0

    def run(self) -> None:
        """Return when the run's time is over."""
        with live_display(self._table, per_second=1 / POLL_S, transient=True):
            while (left_s := self._seconds - self._runner.now_s) > 0:
                time.sleep(min(POLL_S, left_s))
                self._load.poll()
                self._print_new()

    def _print_new(self) -> None:
        for fault in self._runner.injected[self._printed :]:
            print_line(line_of(fault))
            self._printed += 1

    def _table(self) -> RenderableType:
        runner, now_s = self._runner, self._runner.now_s
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("time", f"{now_s:.0f} of {self._seconds:.0f} s")
        for shard, seen_ns in enumerate(self._load.seen_ns):
            table.add_row(f"results, shard {shard}", f"{spark(seen_ns)}  {len(seen_ns):,}")
        table.add_row("leader", ", ".join(self._leaders()) or "-")
        active = [f"{fault.description} ({name})" for name, fault in runner.active.items()]
        table.add_row("active", "; ".join(active) or "-")
        coming = runner.next
        when = f"in {max(coming.at_s - now_s, 0):.0f} s: {coming.description}" if coming else "-"
        table.add_row("next", when)
        done = Counter(fault.scheduled.kind for fault in runner.injected if fault.missed is None)
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
        table.add_row("faults", counts or "-")
        table.add_row("takeovers", str(len(self._load.failovers)))
        return table

    def _leaders(self) -> list[str]:
        recent = self._load.statuses[-RECENT_STATUSES:]
        latest = {status.shard: status.replica for status in recent if status.state == "leader"}
        return [f"{shard}: {replica}" for shard, replica in sorted(latest.items())]


def line_of(fault: InjectedFault) -> str:
    """A fault that has ended, in one line."""
    victim = "" if fault.victim == fault.scheduled.target else f" → {fault.victim}"
    missed = f" (not injected: {fault.missed})" if fault.missed else ""
    return f"{fault.at_s:7.1f} s  {fault.scheduled.description}{victim}{missed}"


def spark(seen_ns: Reversible[int]) -> str:
    """Results in each of the last 60 seconds, as bars."""
    now_ns = time.monotonic_ns()
    counts = [0] * SPARK_S
    for at_ns in reversed(seen_ns):
        age_s = (now_ns - at_ns) // 1_000_000_000
        if age_s >= SPARK_S:
            break
        counts[SPARK_S - 1 - age_s] += 1
    highest = max([*counts, 1])
    return "".join(BARS[-(-count * (len(BARS) - 1) // highest)] for count in counts)
