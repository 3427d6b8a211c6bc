"""History on pages: small charts, a strip of runs, and the same as a table.

Times are in UTC, and marked so that a script can show them in another zone.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checks.explain import history
from checks.explain.history import Span
from checks.models import Config, Move
from checks.models.history import ConfigPoint
from clusteragent.lib import clock
from clusteragent.lib.words import grouped, grouped_count, milliseconds, percent
from nodes.models import Node

SPANS = {Span.HOUR: "Last hour", Span.DAY: "Last day", Span.WEEK: "Last week"}
# Told apart in light and in dark. A second line is dashed, too.
COLOURS = ("#9333ea", "#f97316")
# Of axes and what is written on them: it can be read on light and on dark.
_GREY = "#808894"

Format = Callable[[Any], str]


class Chart(NamedTuple):
    """A chart. kind: line or bar. said: what it shows in words. data, options: what Chart.js takes, as JSON."""

    title: str
    kind: str
    said: str
    data: str
    options: str


class Drawing(NamedTuple):
    """What a chart shows. series: {name: field of the points}. shown: how people read a value. factor: of what is drawn."""

    title: str
    kind: str
    series: Mapping[str, str]
    shown: Format
    factor: float = 1


class Cell(NamedTuple):
    """A minute or an hour of a strip. state: the worst. title: its time and states in words."""

    state: str
    title: str
    is_moved: bool


OF_NODE = (
    Drawing("Load", "line", {"load": "load", "highest": "peak"}, percent, 100),
    Drawing("Configs", "line", {"configs": "configs"}, grouped),
    Drawing("Failing configs", "bar", {"failing": "failing"}, grouped),
    Drawing("Configs that came and went", "bar", {"came": "gained", "went": "lost"}, grouped),
)
OF_CLUSTER = (
    Drawing("Load", "line", {"of all nodes": "load", "of the fullest": "peak"}, percent, 100),
    # Each by its own scale: many that dangle would hide a few that fail.
    Drawing("Failing configs", "bar", {"failing": "failing"}, grouped),
    Drawing("Dangling configs", "bar", {"dangling": "dangling"}, grouped),
    Drawing("Moves", "bar", {"moves": "moves"}, grouped),
    Drawing("Nodes", "line", {"nodes": "nodes"}, grouped),
    Drawing("Configs", "line", {"configs": "configs", "paused": "paused"}, grouped),
)
OF_CONFIG = (Drawing("Run time", "line", {"mean": "mean_ms", "longest": "longest_ms"}, milliseconds, 0.001),)
# The most moves that a config's page names: the last ones. Its timeline has more.
MOST_MOVES = 10
# States of a config, and fields of its points. The worst first.
STATES = ("failing", "unknown", "paused", "ok")


def of_cluster(request: HttpRequest) -> dict[str, Any]:
    """The context of operators/history_part.html for the cluster."""
    now, span = clock.now(), span_of(request)
    return _context(OF_CLUSTER, history.of_cluster(span, now), span, now)


def of_node(request: HttpRequest, node: Node) -> dict[str, Any]:
    """The context of operators/history_part.html for a node."""
    now, span = clock.now(), span_of(request)
    return _context(OF_NODE, history.of_node(node, span, now), span, now)


def of_config(request: HttpRequest, config: Config) -> dict[str, Any]:
    """The context of operators/history_part.html for a config: with a strip of its runs, and its moves."""
    now, span = clock.now(), span_of(request)
    found = history.of_config(config, span, now)
    more: dict[str, Callable[[ConfigPoint], str]] = {
        "node": lambda point: found.nodes.get(point.node_id, "a node that is gone" if point.node_id else "none"),
        "state": _states,
    }
    context = _context(OF_CONFIG, found.points, span, now, more)
    moves = [
        (_marked(move.time, span), f"{move.source_node or 'nowhere'} → {move.to_node or 'nowhere'}", move.reason)
        for move in found.moves[-MOST_MOVES:]
    ]
    return context | {
        "strip": _strip(found.points, found.moves, span, now),
        "states": STATES[::-1],
        "strip_said": _strip_said(found.points),
        "moves": moves,
    }  # fmt: skip


def span_of(request: HttpRequest) -> Span:
    """The span that the page's address names: an hour if none."""
    name = request.GET.get("history", "")
    return Span(name) if name in tuple(Span) else Span.HOUR


def _context(
    drawings: Sequence[Drawing],
    points: Sequence[Any],
    span: Span,
    now: datetime,
    more: Mapping[str, Callable[[Any], str]] | None = None,
) -> dict[str, Any]:
    """The context of charts and table. more: further columns of the table."""
    times = span.times(now)
    columns = [(name, field, drawing.shown) for drawing in drawings for name, field in _series(drawing, span).items()]
    rows = [
        (_marked(point.time, span), [
            *(_shown(shown, getattr(point, field)) for _, field, shown in columns),
            *(tell(point) for tell in (more or {}).values()),
        ])
        for point in reversed(points)
    ]  # fmt: skip
    unit = _unit(span)
    return {
        "spans": [(name, text, name is span) for name, text in SPANS.items()],
        "charts": [_chart(drawing, points, times, span) for drawing in drawings] if points else [],
        "headers": [*(name for name, _, _ in columns), *(more or {})],
        "rows": rows,
        "unit": unit,
        "missing": grouped_count(len(times) - len(points), unit) if points and len(points) < len(times) else "",
        "number": len(times),
        # When the first point of charts and strip begins, and the seconds from one to the next.
        "first": times[0].isoformat(),
        "step": 60 * span.step,
    }  # fmt: skip


def _unit(span: Span) -> str:
    """What a point of a span is of."""
    return "minute" if span is Span.HOUR else "hour"


def _series(drawing: Drawing, span: Span) -> Mapping[str, str]:
    """The series of a drawing: in a minute, the highest and the longest are what the mean is."""
    if span is not Span.HOUR:
        return drawing.series
    return {name: field for name, field in drawing.series.items() if name not in ("highest", "longest")}


def _chart(drawing: Drawing, points: Iterable[Any], times: Sequence[datetime], span: Span) -> Chart:
    known = {point.time: point for point in points}
    datasets: list[dict[str, Any]] = []
    said = []
    series = _series(drawing, span)
    for (name, field), colour in zip(series.items(), COLOURS, strict=False):
        values = [getattr(known[time], field) if time in known else None for time in times]
        drawn = [None if value is None else round(value * drawing.factor, 4) for value in values]
        dataset: dict[str, Any] = {"label": name, "data": drawn, "borderColor": colour, "backgroundColor": colour}
        if drawing.kind == "line":
            # A single minute between two gaps would be no line.
            dataset |= {"borderWidth": 2, "pointRadius": 1, "borderDash": [4, 3] if datasets else []}
        datasets.append(dataset)
        if told := [value for value in values if value is not None]:
            lead = f"{name}: " if len(series) > 1 else ""
            last, low, high = map(drawing.shown, (told[-1], min(told), max(told)))
            # Each is the most or the mean of its minute or hour.
            without = sum(time in known for time in times) - len(told)
            gap = f", not measured in {grouped_count(without, _unit(span))}" if without else ""
            said.append(lead + (f"{last} last, {low} to {high}" if low != high else f"{last} each {_unit(span)}") + gap)
    data = {"labels": [_label(time, span) for time in times], "datasets": datasets}
    words = "; ".join(said) or "not known"
    return Chart(drawing.title, drawing.kind, words, json.dumps(data), json.dumps(_options(len(datasets) > 1, drawing)))


def _options(has_legend: bool, drawing: Drawing) -> dict[str, Any]:
    unit = {percent: "%", milliseconds: "s"}.get(drawing.shown, "")
    ticks = {"color": _GREY, "maxRotation": 0, "autoSkip": True, "maxTicksLimit": 6}
    return {
        "animation": False, "responsive": True, "maintainAspectRatio": False,
        "plugins": {"legend": {"display": has_legend, "labels": {"color": _GREY, "boxWidth": 24, "boxHeight": 1}}},
        "interaction": {"mode": "index", "intersect": False},
        "scales": {
            "x": {"ticks": ticks, "grid": {"display": False}},
            "y": {
                "min": 0, "ticks": ticks if unit else {**ticks, "precision": 0}, "grid": {},
                "title": {"display": bool(unit), "text": unit, "color": _GREY},
            },
        },
    }  # fmt: skip


def _label(time: datetime, span: Span) -> str:
    """A time as its span needs it: `12:05`, or `28 Nov 12:00`."""
    time = time.astimezone(UTC)
    return f"{time:%H:%M}" if span is Span.HOUR else f"{time.day} {time:%b %H:%M}"


def _marked(time: datetime, span: Span) -> SafeString:
    """A time as its span needs it, and all of it for scripts."""
    return format_html('<time datetime="{}">{}</time>', time.astimezone(UTC).isoformat(), _label(time, span))


def _shown(shown: Format, value: float | None) -> str:
    return "" if value is None else shown(value)


def _states(point: ConfigPoint) -> str:
    """The states of a point: `ok`, or `6 failing, 54 ok` in an hour."""
    counts = {name: getattr(point, name) for name in STATES if getattr(point, name)}
    return (
        next(iter(counts))
        if sum(counts.values()) == 1
        else ", ".join(f"{number} {name}" for name, number in counts.items())
    )


def _strip(points: Iterable[ConfigPoint], moves: Iterable[Move], span: Span, now: datetime) -> list[Cell]:
    known = {point.time: point for point in points}
    times = span.times(now)
    each = timedelta(minutes=span.step)
    moved = {time for move in moves for time in times if time <= move.time < time + each}
    cells = []
    for time in times:
        point = known.get(time)
        state = next((name for name in STATES if getattr(point, name)), "unknown") if point else "missing"
        words = _states(point) if point else "not noted"
        cells.append(Cell(state, f"{_label(time, span)} {words}{', moved' if time in moved else ''}", time in moved))
    return cells


def _strip_said(points: Sequence[ConfigPoint]) -> str:
    """`57 minutes ok, 2 failing (last 12:05), 1 unknown`."""
    counts = {name: sum(getattr(point, name) for point in points) for name in reversed(STATES)}
    return ", ".join(f"{grouped_count(number, 'minute')} {name}" for name, number in counts.items() if number)
