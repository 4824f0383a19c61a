"""Generates the JSON of Grafana 12: panels, queries, variables, annotations, dashboards.

Panels are laid out from left to right in 24 columns, in the order of the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
SCHEMA_VERSION = 41


@dataclass(frozen=True)
class Query:
    """One PromQL query of a panel.

    `legend`: may contain {{label}}; `instant`: one value at the end of the range instead of a
    series; `form`: heatmap: one bar per bucket of a histogram.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    form: str = "time_series"


@dataclass(frozen=True)
class Panel:
    """One panel.

    `kind`: Grafana's type of panel; `unit`: Grafana's id of a unit (s, reqps, bytes, percentunit,
    short, …); `width`: in columns of 24; `colors`: (lower bound, color) of values; `texts`:
    value → (text, color), for values that encode a state; `options`: further options of the type.
    """

    title: str
    description: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    colors: Sequence[tuple[float | None, str]] = ((None, "green"),)
    texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    decimals: int | None = None


OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "state-timeline": {
        "alignValue": "center",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "bargauge": {
        "displayMode": "gradient",
        "orientation": "vertical",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "color",
    },
}

CUSTOM: dict[str, Json] = {
    "timeseries": {
        "drawStyle": "line",
        "fillOpacity": 10,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
    },
    "state-timeline": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
}


LINKS_TO_OTHER_BOARDS: Json = {
    "type": "dashboards",
    "title": "Postjournal",
    "tags": ["postjournal"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}


def stat(
    title: str,
    description: str,
    query: Query,
    *,
    width: int,
    height: int = 4,
    unit: str = "short",
    colors: Sequence[tuple[float | None, str]] = ((None, "green"),),
    decimals: int | None = None,
) -> Panel:
    """A panel that shows the latest value of each series as a number."""
    return Panel(
        title,
        description,
        [query],
        kind="stat",
        unit=unit,
        width=width,
        height=height,
        colors=colors,
        decimals=decimals,
    )


def availability(title: str, description: str, expr: str) -> Panel:
    """A panel that shows whether `expr` is 1 (available) or 0 (unavailable)."""
    return Panel(
        title,
        description,
        [Query(expr)],
        kind="stat",
        width=4,
        height=4,
        texts={0: ("unavailable", "red"), 1: ("available", "green")},
        options={"graphMode": "none"},
    )


def _panel_json(panel: Panel, number: int, x: int, y: int) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [_target(query, i) for i, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": OPTIONS[panel.kind] | panel.options,
        "transformations": [],
    }


def _target(query: Query, i: int) -> Json:
    return {
        "refId": chr(ord("A") + i),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
        "format": query.form,
    }


def _defaults(panel: Panel) -> Json:
    custom = dict(CUSTOM.get(panel.kind, {}))
    if panel.stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    defaults: Json = {
        "unit": panel.unit,
        "custom": custom,
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
        "mappings": _mappings(panel.texts),
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in panel.colors],
        },
    }
    if panel.kind == "timeseries":
        defaults["min"] = 0
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    return defaults


def _mappings(texts: Mapping[int, tuple[str, str]]) -> list[Json]:
    if not texts:
        return []
    options = {
        str(value): {"text": text, "color": color, "index": i}
        for i, (value, (text, color)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def variable(name: str, label: str, query: str) -> Json:
    """A dashboard variable with the label values of `query`; initially all are selected."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"Variable-{name}"},
        "definition": query,
        "refresh": 2,
        "sort": 3,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def annotation(name: str, expr: str, title: str, text: str) -> Json:
    """Marks in all panels at the times that are the values of `expr`, ms since the Unix epoch."""
    return {
        "name": name,
        "enable": True,
        "iconColor": "red",
        "datasource": DATASOURCE,
        "target": {"refId": "Anno", "expr": expr, "interval": "5s"},
        "expr": expr,
        "step": "5s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "replica,shard",
        "useValueForTime": True,
    }


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. `uid`: part of its URL in Grafana; never changes."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Json] = ()
    annotations: Sequence[Json] = ()


def dashboard_json(board: Dashboard) -> Json:
    """The dashboard as Grafana loads it."""
    return {
        "uid": board.uid,
        "title": f"Postjournal · {board.title}",
        "description": board.description,
        "tags": ["postjournal"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [LINKS_TO_OTHER_BOARDS],
        "templating": {"list": list(board.variables)},
        "annotations": {"list": list(board.annotations)},
        "panels": _arranged(board.panels),
    }


def _arranged(panels: Sequence[Panel]) -> list[Json]:
    placed, x, y, tallest = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append(_panel_json(panel, number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed
