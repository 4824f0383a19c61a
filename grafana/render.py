"""`python -m grafana.render`: pictures of some panels, from a Prometheus' data, for the README.

Not Grafana's own pictures, but the panels' own queries: titles, units and colours of roles are
those of the dashboards.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import requests

from grafana import failover, overview
from grafana.panels import Dashboard, Panel, Query

PICTURES = {
    "who-leads": (overview.BOARD, "Who leads, who follows"),
    "commands": (overview.BOARD, "Commands by outcome"),
    "end-to-end": (overview.BOARD, "End to end"),
    "takeovers": (failover.BOARD, "How long takeovers took"),
}
FOLDER = Path(__file__).parents[1] / "docs" / "panels"

LEFT, WIDTH, RIGHT, TOP, HEIGHT, BOTTOM = 170, 640, 16, 30, 150, 46
POINTS = 160
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
NAMED = {
    "green": "#3f9c5a",
    "blue": "#5794f2",
    "yellow": "#e0b400",
    "orange": "#e8772e",
    "purple": "#8f6bb3",
    "red": "#c4162a",
    "text": "#777",
}
STYLE = "text{font:11px sans-serif;fill:#222}.s{font-size:10px;fill:#555}.t{font-weight:bold}"
UNITS = {"s": (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)), "cps": (("/s", 1.0),)}


@dataclass(frozen=True)
class Series:
    """`points`: (seconds since the Unix epoch, value)."""

    name: str
    points: list[tuple[float, float]]


class Source:
    """Asks a Prometheus as Grafana would."""

    def __init__(self, url: str, minutes: float) -> None:
        """Of the last `minutes`."""
        self._url, self.seconds = url, minutes * 60
        self.end_s = time.time()
        self.start_s = self.end_s - self.seconds

    def series(self, query: Query) -> list[Series]:
        """A range, or the end alone."""
        expr = query.expr.replace("$__rate_interval", "20s").replace(
            "$__range", f"{self.seconds:.0f}s"
        )
        for variable in ("$shard", "$replica", "$route"):
            expr = expr.replace(variable, ".*")
        if query.instant:
            found = self._ask("query", query=expr, time=self.end_s)
            return [Series(_name(query, e["metric"]), [_point(e["value"])]) for e in found]
        step = max(self.seconds / POINTS, 1)
        found = self._ask("query_range", query=expr, start=self.start_s, end=self.end_s, step=step)
        return [Series(_name(query, e["metric"]), list(map(_point, e["values"]))) for e in found]

    def _ask(self, kind: str, **parameters: Any) -> list[Any]:
        answer = requests.get(f"{self._url}/api/v1/{kind}", params=parameters, timeout=10)
        answer.raise_for_status()
        found: list[Any] = answer.json()["data"]["result"]
        return found


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _name(query: Query, labels: dict[str, str]) -> str:
    name = query.legend or ", ".join(labels.values())
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name


class Picture:
    """One panel as SVG."""

    def __init__(self, panel: Panel, source: Source) -> None:
        """Asks for the data."""
        self._panel, self._source = panel, source
        self._series = [each for query in panel.queries for each in source.series(query)]
        self._parts: list[str] = []

    def svg(self) -> str:
        """The whole picture. Raises ValueError when there is no data."""
        if not self._series:
            raise ValueError(f"{self._panel.title}: no data")
        draw = {"state-timeline": self._states, "bargauge": self._bars}
        height = draw.get(self._panel.kind, self._lines)()
        self._text(8, 18, self._panel.title, 'class="t"')
        width = LEFT + WIDTH + RIGHT
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img"><title>{escape(self._panel.title)}</title>'
            f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>'
            f"{''.join(self._parts)}</svg>\n"
        )

    # --- kinds ------------------------------------------------------------------------------

    def _states(self) -> int:
        """A lane for each replica, coloured by its role."""
        lanes = sorted(self._series, key=lambda each: each.name)
        for i, lane in enumerate(lanes):
            y = TOP + i * 26
            self._text(8, y + 16, lane.name, 'class="s"')
            for state, (from_s, to_s) in _runs(lane.points):
                text, colour = self._panel.texts[int(state)]
                x, width = self._x(from_s), max(self._x(to_s) - self._x(from_s), 1)
                self._rect((x, y, width, 20), NAMED[colour], text)
                if width > 60:
                    self._text(x + 4, y + 14, text, 'class="s" style="fill:#fff"')
        bottom = TOP + len(lanes) * 26 + 4
        self._time_axis(bottom)
        return bottom + 28

    def _lines(self) -> int:
        top = max((value for each in self._series for _, value in each.points), default=0) or 1
        unit, size = self._unit(top)
        for share in (0, 0.5, 1):
            y = TOP + HEIGHT * (1 - share)
            self._parts.append(f'<path d="M{LEFT} {y}h{WIDTH}" stroke="#ddd"/>')
            label = f"{share * top / size:.3g} {unit}"
            self._text(LEFT - 8, y + 4, label, 'class="s" text-anchor="end"')
        for i, each in enumerate(self._series):
            colour = LINES[i % len(LINES)]
            points = " ".join(
                f"{self._x(at_s):.0f},{TOP + HEIGHT * (1 - value / top):.1f}"
                for at_s, value in each.points
                if value == value  # noqa: PLR0124 - not a NaN
            )
            line = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            self._parts.append(line)
            self._text(8, TOP + 14 + i * 16, each.name, f'style="fill:{colour}"')
        self._time_axis(TOP + HEIGHT)
        return TOP + HEIGHT + BOTTOM

    def _bars(self) -> int:
        """Of a histogram: how many in each bucket."""
        buckets = sorted((_bound(each.name), each.points[-1][1]) for each in self._series)
        counts = [
            (bound, count - before)
            for (bound, count), before in zip(
                buckets, [0.0, *(count for _, count in buckets)], strict=False
            )
        ]
        shown = [each for each in counts if each[1] > 0.01]
        top, width = max(count for _, count in shown), WIDTH / max(len(shown), 8)
        for i, (bound, count) in enumerate(shown):
            height = HEIGHT * count / top
            place = (LEFT + i * width, TOP + HEIGHT - height, width - 6, height)
            self._rect(place, LINES[0], f"{count:.0f}")
            middle = LEFT + i * width + width / 2 - 3
            style = 'class="s" text-anchor="middle"'
            self._text(middle, TOP + HEIGHT - height - 4, f"{count:.0f}", style)
            self._text(middle, TOP + HEIGHT + 16, f"≤ {bound * 1000:g} ms", style)
        return TOP + HEIGHT + BOTTOM

    # --- pieces -----------------------------------------------------------------------------

    def _unit(self, top: float) -> tuple[str, float]:
        known = UNITS.get(self._panel.unit, (("", 1.0),))
        return next(((unit, size) for unit, size in known if top >= size), known[-1])

    def _x(self, at_s: float) -> float:
        return LEFT + (at_s - self._source.start_s) / self._source.seconds * WIDTH

    def _time_axis(self, y: float) -> None:
        for part in range(5):
            at_s = self._source.start_s + part * self._source.seconds / 4
            text = time.strftime("%H:%M:%S", time.gmtime(at_s))
            self._text(self._x(at_s), y + 16, text, 'class="s" text-anchor="middle"')

    def _rect(self, place: tuple[float, float, float, float], fill: str, hint: str) -> None:
        x, y, width, height = (round(each, 1) for each in place)
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}">'
            f"<title>{escape(hint)}</title></rect>"
        )

    def _text(self, x: float, y: float, text: str, style: str) -> None:
        self._parts.append(f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>')


def _runs(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, tuple[float, float]]]:
    """(state, (from, to)) for each stretch without a change; a hole in the data is one."""
    step = min((b[0] - a[0] for a, b in pairwise(points)), default=1.0)
    for state, group in groupby(points, key=lambda point: point[1]):
        stretch = [at_s for at_s, _ in group]
        yield state, (stretch[0], stretch[-1] + step)


def _bound(name: str) -> float:
    return float(name.removesuffix(" s").replace("+Inf", "inf"))


def _panel(board: Dashboard, title: str) -> Panel:
    return next(panel for panel in board.panels if panel.title == title)


def main() -> None:
    """See the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    source = Source(arguments.prometheus, arguments.minutes)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, (board, title) in PICTURES.items():
        picture = Picture(_panel(board, title), source).svg()
        (arguments.folder / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
