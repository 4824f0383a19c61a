"""What a terminal shows while it goes on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from loadtest.chaos.load import ChaosLoad
from loadtest.faults.striker import Blow, Striker

REFRESH_S = 0.5
BARS = " ▁▂▃▄▅▆▇█"
SPARK_S = 60


class Watch:
    """Takes in what is seen, twice a second, and shows it: a picture on a terminal, else a line
    for each strike."""

    def __init__(self, load: ChaosLoad, striker: Striker, seconds: float) -> None:
        """On stderr."""
        self._load, self._striker, self._seconds = load, striker, seconds
        self._console = Console(stderr=True, highlight=False)
        self._told = 0

    def until(self, end_s: float) -> None:
        """Returns at `end_s` since the striker's start."""
        with self._live() as live:
            while (left_s := end_s - self._striker.now_s) > 0:
                time.sleep(min(REFRESH_S, left_s))
                self._load.catch_up()
                self._tell()
                if live is not None:
                    live.update(self._picture(), refresh=True)

    @contextmanager
    def _live(self) -> Iterator[Live | None]:
        if not self._console.is_terminal:
            yield None
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            yield live

    def _tell(self) -> None:
        for blow in self._striker.blows[self._told :]:
            self._console.print(told(blow), markup=False, soft_wrap=True)
            self._told += 1

    def _picture(self) -> RenderableType:
        striker, now_s = self._striker, self._striker.now_s
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("time", f"{now_s:.0f} of {self._seconds:.0f} s")
        for shard, stamps in enumerate(self._load.fresh_ns):
            table.add_row(f"results, shard {shard}", f"{spark(stamps)}  {len(stamps):,}")
        table.add_row("leader", ", ".join(self._leaders()) or "-")
        under_way = [f"{strike.told()} ({who})" for who, strike in striker.under_way.items()]
        table.add_row("under way", "; ".join(under_way) or "-")
        coming = striker.next
        told_next = f"in {max(coming.at_s - now_s, 0):.0f} s: {coming.told()}" if coming else "-"
        table.add_row("next", told_next)
        done = Counter(blow.strike.kind for blow in striker.blows if blow.missed is None)
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
        table.add_row("strikes", counts or "-")
        table.add_row("takeovers", str(len(self._load.failovers)))
        return table

    def _leaders(self) -> list[str]:
        latest = {s.shard: s.replica for s in self._load.statuses[-200:] if s.state == "leader"}
        return [f"{shard}: {replica}" for shard, replica in sorted(latest.items())]


def told(blow: Blow) -> str:
    """A strike that is over, in one line."""
    victim = "" if blow.victim == blow.strike.target else f" → {blow.victim}"
    missed = f" (not done: {blow.missed})" if blow.missed else ""
    return f"{blow.at_s:7.1f} s  {blow.strike.told()}{victim}{missed}"


def spark(seen_ns: Iterator[int] | object) -> str:
    """Results in each of the last seconds, as bars."""
    now_ns = time.monotonic_ns()
    counts = [0] * SPARK_S
    for at_ns in reversed(seen_ns):  # type: ignore[call-overload]
        age_s = (now_ns - at_ns) // 1_000_000_000
        if age_s >= SPARK_S:
            break
        counts[SPARK_S - 1 - age_s] += 1
    most = max([*counts, 1])
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)
