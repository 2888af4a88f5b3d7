"""Grafana's JSON (schema 38, Grafana 10 and later) from the little that differs between panels.

A panel is a dictionary as Grafana reads it, without its place; ``dashboard`` gives it one.
"""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
TAG = "token-verifier"
WITH_EXEMPLARS = "verifier_decision_seconds"
"""The histogram that leads to traces."""
COLUMNS = 24

JOB = 'namespace=~"$namespace", job=~"$job"'
"""Matchers of what the rules record, which has no instance."""
INSTANCE = f'{JOB}, instance=~"$instance"'
ISSUER = f'{INSTANCE}, issuer=~"$issuer"'
SURFACE = f'{INSTANCE}, surface=~"$surface"'
DECISIONS = f'{SURFACE}, issuer=~"$issuer"'

GREEN, YELLOW, RED = "green", "yellow", "red"
Steps = Sequence[tuple[float, str]]
"""From this value on, this colour; green below the first."""

BAD_ABOVE_ZERO: Steps = ((1e-9, RED),)
DOUBTFUL_ABOVE_ZERO: Steps = ((1e-9, YELLOW),)


@dataclass(frozen=True)
class Query:
    """``expr`` in PromQL; ``legend`` names its series."""

    expr: str
    legend: str = ""
    exemplars: bool = False


def rate(metric: str, matchers: str = INSTANCE, by: str = "") -> str:
    """The sum of what a counter grows by each second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{matchers}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, matchers: str = INSTANCE, by: str = "") -> str:
    grouped = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', matchers, grouped)})"


def quantiles(histogram: str, matchers: str = INSTANCE, by: str = "") -> list[Query]:
    named = f" {{{{{by}}}}}" if by else ""
    dots = histogram == WITH_EXEMPLARS
    return [Query(quantile(share / 100, histogram, matchers, by), f"p{share}{named}", dots) for share in (50, 99)]


def lines(
    title: str,
    description: str,
    queries: Iterable[Query],
    unit: str = "short",
    *,
    steps: Steps = (),
    stacked: bool = False,
    width: int = 8,
) -> Json:
    """Values over time. ``steps`` are drawn as lines."""
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if steps else "off"},
    }
    options: Json = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0, **_of(unit, steps)}
    return _panel("timeseries", title, description, queries, defaults, options, (width, 8))


def value(
    title: str,
    description: str,
    query: Query,
    unit: str = "short",
    *,
    steps: Steps = (),
    below: tuple[float, str] | None = None,
    width: int = 4,
    mappings: Mapping[str, tuple[str, str]] | None = None,
) -> Json:
    """The present value, on a ground that tells whether it is good. ``below``: a bound, and the colour under it.
    ``mappings``: value → text and colour."""
    options: Json = {
        "colorMode": "background" if steps or below or mappings else "value",
        "graphMode": "none" if mappings else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    defaults = {"color": {"mode": "thresholds"}, "mappings": _mappings(mappings or {}), **_of(unit, steps)}
    if below:
        bound, colour = below
        defaults["thresholds"]["steps"] = [{"color": colour, "value": None}, {"color": GREEN, "value": bound}]
    return _panel("stat", title, description, [query], defaults, options, (width, 4))


def bars(title: str, description: str, query: Query, unit: str, below: Steps, *, width: int = 8) -> Json:
    """A bar for each series; ``below`` are bounds from the lowest, each with the colour under it."""
    colours = [*(colour for _, colour in below), GREEN]
    bounds = [None, *(bound for bound, _ in below)]
    defaults = {"color": {"mode": "thresholds"}, "min": 0, **_of(unit, ())}
    defaults["thresholds"]["steps"] = [
        {"color": colour, "value": bound} for colour, bound in zip(colours, bounds, strict=True)
    ]
    options: Json = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "color",
    }
    return _panel("bargauge", title, description, [query], defaults, options, (width, 8))


def states(
    title: str, description: str, query: Query, mappings: Mapping[str, tuple[str, str]], *, width: int = 8
) -> Json:
    """Which state each series was in, over time."""
    options: Json = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    defaults = {"color": {"mode": "thresholds"}, "mappings": _mappings(mappings), **_of("short", ())}
    return _panel("state-timeline", title, description, [query], defaults, options, (width, 8))


def heatmap(title: str, description: str, histogram: str, matchers: str, *, width: int = 8) -> Json:
    """How many observations fell into each bucket, over time."""
    options: Json = {
        "calculate": False,
        "cellGap": 1,
        "color": {"exponent": 0.5, "mode": "scheme", "scale": "exponential", "scheme": "Oranges", "steps": 64},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"show": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
    }
    query = Query(rate(f"{histogram}_bucket", matchers, "le"), "{{le}}", histogram == WITH_EXEMPLARS)
    panel = _panel("heatmap", title, description, [query], _of("short", ()), options, (width, 8))
    panel["targets"][0]["format"] = "heatmap"
    return panel


def table(title: str, description: str, query: Query, columns: Mapping[str, str], *, width: int = 8) -> Json:
    """The present values. ``columns``: label → heading, in order; the others are hidden."""
    options: Json = {"cellHeight": "sm", "showHeader": True}
    panel = _panel("table", title, description, [query], _of("short", ()), options, (width, 8))
    panel["targets"][0] |= {"format": "table", "instant": True, "range": False}
    shown = {"include": {"names": list(columns)}}
    order = {"indexByName": {name: place for place, name in enumerate(columns)}, "renameByName": dict(columns)}
    panel["transformations"] = [
        {"id": "filterFieldsByName", "options": shown},
        {"id": "organize", "options": {"excludeByName": {}, **order}},
    ]
    return panel


def _of(unit: str, steps: Steps) -> Json:
    bounds = [{"color": GREEN, "value": None}, *({"color": colour, "value": bound} for bound, colour in steps)]
    return {"thresholds": {"mode": "absolute", "steps": bounds}, "unit": unit}


def _mappings(texts: Mapping[str, tuple[str, str]]) -> list[Json]:
    options = {
        number: {"color": colour, "index": place, "text": text}
        for place, (number, (text, colour)) in enumerate(texts.items())
    }
    return [{"options": options, "type": "value"}] if options else []


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Iterable[Query],
    defaults: Json,
    options: Json,
    size: tuple[int, int],
) -> Json:
    width, height = size
    return {
        "datasource": DATASOURCE,
        "description": description,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": {"h": height, "w": width},
        "options": options,
        "targets": [_target(letter, query) for letter, query in zip(string.ascii_uppercase, queries, strict=False)],
        "title": title,
        "type": kind,
    }


def _target(letter: str, query: Query) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": query.exemplars,
        "expr": query.expr,
        "instant": False,
        "legendFormat": query.legend or "__auto",
        "range": True,
        "refId": letter,
    }


Rows = Sequence[tuple[str, Sequence[Json]]]
"""Title of a row → its panels, which fill the columns from the left, line by line."""


def dashboard(uid: str, title: str, description: str, variables: Sequence[Json], rows: Rows) -> Json:
    links = {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }
    return {
        "annotations": {"list": _ANNOTATIONS},
        "description": description,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [links],
        "panels": _placed(rows),
        "refresh": "30s",
        "schemaVersion": 38,
        "tags": [TAG],
        "templating": {"list": [_DATASOURCE_VARIABLE, *variables]},
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "weekStart": "",
    }


def _placed(rows: Rows) -> list[Json]:
    placed: list[Json] = []
    top = 0
    for title, panels in rows:
        row = {"collapsed": False, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}, "panels": [], "title": title}
        placed.append({"id": len(placed) + 1, "type": "row", **row})
        top += 1
        left = height = 0
        for panel in panels:
            place = panel["gridPos"]
            if left + place["w"] > COLUMNS:
                top, left, height = top + height, 0, 0
            placed.append({"id": len(placed) + 1, **panel, "gridPos": {**place, "x": left, "y": top}})
            left, height = left + place["w"], max(height, place["h"])
        top += height
    return placed


def variable(name: str, label: str, query: str, *, all_value: str | None = None) -> Json:
    """One or several values of a label. ``all_value``: what *All* stands for instead of each of the values, so that it
    also takes what has no such label."""
    return {
        "allValue": all_value,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": f"Variable-{name}"},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


_DATASOURCE_VARIABLE: Json = {
    "current": {},
    "hide": 0,
    "includeAll": False,
    "label": "Data source",
    "multi": False,
    "name": "datasource",
    "options": [],
    "query": "prometheus",
    "refresh": 1,
    "regex": "",
    "skipUrlSync": False,
    "type": "datasource",
}

NAMESPACE_VARIABLE = variable("namespace", "Namespace", "label_values(verifier_build_info, namespace)", all_value=".*")
JOB_VARIABLE = variable("job", "Job", 'label_values(verifier_build_info{namespace=~"$namespace"}, job)')
INSTANCE_VARIABLE = variable("instance", "Instance", f"label_values(verifier_build_info{{{JOB}}}, instance)")
ISSUER_VARIABLE = variable(
    "issuer",
    "Issuer",
    f'label_values({{__name__=~"verifier_(decisions_total|key_set_keys|introspections_in_flight)", {JOB}}}, issuer)',
    all_value=".*",
)
SURFACE_VARIABLE = variable(
    "surface", "Surface", f"label_values(verifier_decision_seconds_count{{{JOB}}}, surface)", all_value=".*"
)


def _annotation(name: str, expr: str, colour: str, text: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "hide": False,
        "iconColor": colour,
        "name": name,
        "step": "60s",
        "textFormat": text,
        "titleFormat": name,
    }


_ANNOTATIONS = [
    _annotation("Start", f"changes(process_start_time_seconds{{{INSTANCE}}}[2m]) > 0", "blue", "{{instance}} started"),
    _annotation(
        "Configuration", f"changes(verifier_config_hash{{{INSTANCE}}}[2m]) > 0", "purple", "another one at {{instance}}"
    ),
]
