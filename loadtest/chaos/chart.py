"""The timeline as SVG: results per second, leaders, and injected faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from loadtest.chaos.timeline import LeadershipInterval, Timeline
from loadtest.faults.schedule_runner import InjectedFault

LEFT, WIDTH, RIGHT = 130, 1000, 20
CURVE_HEIGHT, LANE_HEIGHT, GAP = 110, 22, 26
LEADER_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito's colors, which most color-blind readers can distinguish; names are written too."""

INK, FAINT, AREA, FAULT = "#222", "#ccc", "#999", "#b00020"
STYLE = "text{font:11px sans-serif;fill:#222}.s{font-size:9px}"


class Chart:
    """Drawn from top to bottom."""

    def __init__(
        self, timeline: Timeline, faults: Sequence[InjectedFault], replicas: Sequence[str]
    ) -> None:
        self._timeline, self._faults, self._replicas = timeline, faults, list(replicas)
        self._per_s = WIDTH / max(timeline.seconds, 1)
        self._parts: list[str] = []
        self._y = 16

    def svg(self) -> str:
        for shard, results in enumerate(self._timeline.results):
            self._curve(shard, results)
            self._leaders([led for led in self._timeline.leaders if led.shard == shard])
        self._fault_lanes()
        self._axis()
        width, height = LEFT + WIDTH + RIGHT, self._y + 10
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img"><title>Results per second, leaders and '
            f'faults</title><style>{STYLE}</style><rect width="{width}" height="{height}" '
            f'fill="#fff"/>{"".join(self._parts)}</svg>\n'
        )

    def _x(self, at_s: float) -> float:
        return round(LEFT + min(max(at_s, 0), self._timeline.seconds) * self._per_s, 1)

    def _text(self, x: float, y: float, text: str, style: str = "") -> None:
        self._parts.append(f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>')

    def _bar(self, from_s: float, to_s: float, fill: str, hint: str) -> None:
        """A bar in the present lane."""
        x, width = self._x(from_s), max(self._x(to_s) - self._x(from_s), 1.5)
        self._parts.append(
            f'<rect x="{x}" y="{self._y + 3}" width="{width:.1f}" height="{LANE_HEIGHT - 6}" '
            f'fill="{fill}"><title>{escape(hint)}</title></rect>'
        )

    def _curve(self, shard: int, results: Sequence[int]) -> None:
        top, bottom = self._y, self._y + CURVE_HEIGHT
        top_count = _usual_maximum(results)
        points = [
            f"{self._x(second + 0.5)},{bottom - min(count / top_count, 1) * CURVE_HEIGHT:.1f}"
            for second, count in enumerate(results)
        ]
        area = " ".join([f"{self._x(0)},{bottom}", *points, f"{self._x(len(results))},{bottom}"])
        self._parts.append(f'<polygon points="{area}" fill="{AREA}"/>')
        self._parts.append(f'<path d="M{LEFT} {bottom}h{WIDTH}" stroke="{INK}"/>')
        self._text(4, top + 10, f"shard {shard}")
        self._text(4, top + 26, "results per second", 'class="s"')
        self._text(LEFT - 6, top + 8, f"{top_count:.0f}", 'text-anchor="end" class="s"')
        self._text(4, top + 40, f"at most {max([*results, 0])}", 'class="s"')
        self._text(LEFT - 6, bottom, "0", 'text-anchor="end" class="s"')
        self._y = bottom + 6

    def _leaders(self, intervals: Sequence[LeadershipInterval]) -> None:
        self._text(4, self._y + 15, "leader")
        for led in intervals:
            number = self._replicas.index(led.leader) if led.leader in self._replicas else 0
            hint = f"{led.leader}, epoch {led.epoch}: {led.from_s:.1f}–{led.to_s:.1f} s"
            self._bar(led.from_s, led.to_s, LEADER_COLORS[number % len(LEADER_COLORS)], hint)
            if (led.to_s - led.from_s) * self._per_s > 12:
                style = 'class="s" style="fill:#fff"'
                name = led.leader.rpartition("-")[2]
                self._text(self._x(led.from_s) + 3, self._y + 15, name, style)
        self._y += LANE_HEIGHT + GAP

    def _fault_lanes(self) -> None:
        """One lane for each kind."""
        by_kind = sorted(self._faults, key=lambda fault: fault.scheduled.kind)
        for kind, faults in groupby(by_kind, key=lambda fault: fault.scheduled.kind):
            middle = self._y + LANE_HEIGHT / 2
            self._text(4, middle + 4, kind)
            self._parts.append(f'<path d="M{LEFT} {middle}h{WIDTH}" stroke="{FAINT}"/>')
            for fault in faults:
                hint = f"{fault.at_s:.1f} s: {fault.scheduled.description} → {fault.victim}"
                self._bar(fault.at_s, fault.end_s, FAINT if fault.missed else FAULT, hint)
            self._y += LANE_HEIGHT

    def _axis(self) -> None:
        self._y += 6
        for at_s in _ticks(self._timeline.seconds):
            self._parts.append(f'<path d="M{self._x(at_s)} {self._y}v5" stroke="{INK}"/>')
            style = 'text-anchor="middle" class="s"'
            self._text(self._x(at_s), self._y + 16, f"{at_s:g} s", style)
        self._y += 20


def _usual_maximum(results: Sequence[int]) -> float:
    """Twice the median: the peak after a silence would flatten the rest of the curve."""
    ordered = sorted(results)
    usual = ordered[len(ordered) // 2] * 2 if ordered else 0
    return max(min(usual, max(ordered, default=1)), 1)


def _ticks(seconds: float) -> Iterator[float]:
    step = next((step for step in (5, 10, 30, 60, 120, 300) if seconds / step <= 12), 600)
    yield from range(0, int(seconds) + 1, step)
