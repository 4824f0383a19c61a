"""Grafana's JSON in words: panels, targets, variables, a dashboard. Keys are those of Grafana 12.

Panels are laid out from left to right in 24 columns, in the order in which they are given.
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
    """`legend`: with {{label}} in it. `instant`: the value now, or over the whole range.

    `form`: heatmap makes bars of a histogram's buckets, table rows of series.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    form: str = "time_series"


@dataclass(frozen=True)
class Panel:
    """`unit`: Grafana's id of a unit (s, reqps, bytes, percentunit, short, …).

    `colours`: from which value on a figure has which colour; `texts`: value → (text, colour),
    for values that stand for words; `options`: what the type of panel knows besides.
    """

    title: str
    description: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    colours: Sequence[tuple[float | None, str]] = ((None, "green"),)
    texts: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    transformations: Sequence[Json] = ()
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
    "table": {"cellHeight": "sm", "showHeader": True},
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


LINK_TO_THE_OTHERS: Json = {
    "type": "dashboards",
    "title": "Postjournal",
    "tags": ["postjournal"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}


def _panel_json(panel: Panel, number: int, place: tuple[int, int]) -> Json:
    """One panel at column and line `place`."""
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": place[0], "y": place[1], "w": panel.width, "h": panel.height},
        "targets": [_target(query, i) for i, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": OPTIONS[panel.kind] | panel.options,
        "transformations": list(panel.transformations),
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
            "steps": [{"value": value, "color": colour} for value, colour in panel.colours],
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
        str(value): {"text": text, "color": colour, "index": i}
        for i, (value, (text, colour)) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}]


def variable(name: str, label: str, query: str) -> Json:
    """A choice of label values; everything is chosen at first."""
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
    """Marks in all panels; the values of `expr` are their times, ms since the Unix epoch."""
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
    """`uid`: its address in Grafana, for ever."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Json] = ()
    annotations: Sequence[Json] = ()


def dashboard_json(board: Dashboard) -> Json:
    """A whole dashboard as Grafana loads it."""
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
        "links": [LINK_TO_THE_OTHERS],
        "templating": {"list": list(board.variables)},
        "annotations": {"list": list(board.annotations)},
        "panels": _laid_out(board.panels),
    }


def _laid_out(panels: Sequence[Panel]) -> list[Json]:
    placed, x, y, tallest = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append(_panel_json(panel, number, (x, y)))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed
