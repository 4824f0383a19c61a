"""What the terminal shows during the demo: the replicas' states, the rate, and the events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.progress import is_terminal, live_display, print_line
from loadtest.system import BenchSystem
from loadtest.workload.load import Load
from postjournal.cluster.status import ReplicaStatus

SILENT_S = 2.5
"""Replicas publish their status once a second."""

POLL_S = 0.1
FRAMES_PER_S = 8
STYLES = {"leader": "bold green", "standby": "green"}
UNREACHABLE = Text("no status", style="red")


class Display:
    """A table of one shard's replicas on a terminal; elsewhere only the lines of events."""

    def __init__(self, system: BenchSystem, load: Load, shard: int) -> None:
        self._load, self._shard = load, shard
        self._names = {row.name: row.container or row.name for row in system.rows(shard)}
        self._statuses: dict[str, tuple[float, ReplicaStatus]] = {}
        self._activity, self._rate = "", 0.0
        self._counted = (time.monotonic(), 0)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw the table until the end of the block; its last state stays."""
        with live_display(self._render, FRAMES_PER_S):
            yield

    def name(self, replica: str) -> str:
        """The name that Docker shows, for a container."""
        return self._names.get(replica, replica)

    def show_activity(self, text: str) -> None:
        """Show what is going on now, until the next call."""
        self._activity = text
        if not is_terminal():
            print_line(text)

    def print_event(self, text: str) -> None:
        """Print a line that stays, with rich's markup."""
        print_line(text, markup=True)

    def wait(self, seconds: float) -> None:
        """Go on updating the table for some seconds."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._update()
            time.sleep(min(POLL_S, left_s))

    def _update(self) -> None:
        self._load.poll()
        now_s = time.monotonic()
        for status in self._load.statuses:
            if status.shard == self._shard:
                self._statuses[status.replica] = now_s, status
        self._load.statuses.clear()
        since_s, count = self._counted
        if now_s - since_s >= 1.0:
            decided = self._load.auditor.decided
            self._rate = (decided - count) / (now_s - since_s)
            self._counted = now_s, decided

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in ("REPLICA", "STATE", "EPOCH", "SEQ"):
            table.add_column(title, justify="right" if title in ("EPOCH", "SEQ") else "left")
        for replica in sorted(self._names, key=self.name):
            table.add_row(self.name(replica), *self._cells(replica))
        load = self._load
        figures = (
            f"{load.auditor.decided:,} commands decided, {self._rate:,.0f}/s; "
            f"{len(load.failovers)} changes of leader"
        )
        return Group(Text(), table, Text(), Text(figures), Text(self._activity, style="bold"))

    def _cells(self, replica: str) -> list[RenderableType]:
        received_s, status = self._statuses.get(replica, (0.0, None))
        if status is None or time.monotonic() - received_s > SILENT_S:
            return [UNREACHABLE, "-", "-"]
        state = Text(status.state, style=STYLES.get(status.state, "yellow"))
        return [state, str(status.epoch), f"{status.seq:,}"]
