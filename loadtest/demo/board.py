"""What the terminal shows while the demo plays: who leads, how fast, and what has happened."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from loadtest.bench_system import Stage
from loadtest.workload.load import Load
from postjournal.cluster.status import ReplicaStatus

SILENT_S = 2.5
"""Replicas say something once a second."""

TURN_S = 0.1
COLOURS = {"leader": "bold green", "standby": "green", "gone or silent": "red"}


class Board:
    """A context manager; off a terminal it prints the news and nothing else."""

    def __init__(self, stage: Stage, load: Load, shard: int) -> None:
        """Of one shard."""
        self._load, self._shard = load, shard
        self._console = Console(stderr=True, highlight=False)
        self._names = {row.name: row.container or row.name for row in stage.rows(shard)}
        self._heard: dict[str, tuple[float, ReplicaStatus]] = {}
        self._now, self._rate = "", 0.0
        self._counted = (time.monotonic(), 0)
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> Board:
        """Begin to draw."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture."""
        if self._console.is_terminal:
            self._live.stop()

    def name(self, replica: str) -> str:
        """As people see it: of a container, its name."""
        return self._names.get(replica, replica)

    def announce(self, text: str) -> None:
        """What is going on now."""
        self._now = text
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True)

    def tell(self, text: str) -> None:
        """What has happened: a line that stays."""
        self._console.print(text, soft_wrap=True)

    def wait(self, seconds: float) -> None:
        """Go on drawing for so long."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self.turn()
            time.sleep(min(TURN_S, left_s))

    def turn(self) -> None:
        """Take in what has come."""
        self._load.catch_up()
        now = time.monotonic()
        for status in self._load.statuses:
            if status.shard == self._shard:
                self._heard[status.replica] = now, status
        self._load.statuses.clear()
        since, count = self._counted
        if now - since >= 1.0:
            decided = self._load.auditor.decided
            self._rate, self._counted = (decided - count) / (now - since), (now, decided)

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in ("REPLICA", "STATE", "EPOCH", "SEQ"):
            table.add_column(title, justify="right" if title in ("EPOCH", "SEQ") else "left")
        for replica in sorted(self._names, key=self.name):
            table.add_row(*self._cells(replica))
        load = self._load
        figures = (
            f"{load.auditor.decided:,} commands decided, {self._rate:,.0f}/s; "
            f"{len(load.failovers)} changes of leader"
        )
        return Group(Text(), table, Text(), Text(figures), Text(self._now, style="bold"))

    def _cells(self, replica: str) -> list[RenderableType]:
        heard_s, status = self._heard.get(replica, (0.0, None))
        if status is None or time.monotonic() - heard_s > SILENT_S:
            return [self.name(replica), Text("gone or silent", style="red"), "-", "-"]
        style = COLOURS.get(status.state, "yellow")
        state = Text(status.state, style=style)
        return [self.name(replica), state, str(status.epoch), f"{status.seq:,}"]
