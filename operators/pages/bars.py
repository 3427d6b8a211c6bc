"""A chart of moves by reason over time, as stacked bars."""

import math
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, DateTimeField, F, Func, Value

from checks.explain.reasons import words
from checks.models import Move
from operators.pages.ranges import Range, between

BARS = 60
# The size of the drawing, in its own units.
WIDTH, HEIGHT = 960, 120
# The possible lengths of a bar, in seconds.
_STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400)
_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


class Block(NamedTuple):
    """One reason's part of a bar. top and height: in the units of the drawing."""

    colour: str
    number: int
    top: float
    height: float


class Bar(NamedTuple):
    """The moves from start to end. left and width: in the units of the drawing."""

    start: datetime
    end: datetime
    left: float
    width: float
    blocks: list[Block]

    @property
    def number(self) -> int:
        """The number of moves in the bar."""
        return sum(block.number for block in self.blocks)

    @property
    def query(self) -> str:
        """The URL query for the bar's times."""
        return between(self.start, self.end)


class Chart(NamedTuple):
    """The bars, the totals as [(reason, number of moves)], and the most moves in one bar."""

    bars: list[Bar]
    totals: list[tuple[str, int]]
    most: int

    @property
    def number(self) -> int:
        """The number of all moves."""
        return sum(number for _, number in self.totals)


def chart(span: Range) -> Chart:
    """The chart of the moves in a range of time."""
    # The length of a bar, so that there are about BARS of them.
    wanted = (span.until - span.since).total_seconds() / BARS
    days = 86_400 * math.ceil(wanted / 86_400)
    step = timedelta(seconds=next((step for step in _STEPS if step >= wanted), days))
    bin_ = Func(Value(step), F("time"), Value(_EPOCH), function="date_bin", output_field=DateTimeField())
    moves = Move.objects.filter(time__gte=span.since, time__lt=span.until).order_by()
    counts: dict[datetime, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for start, reason, number in moves.values_list(bin_, "reason").annotate(Count("pk")):
        counts.setdefault(start, {})[reason] = number
        totals[reason] = totals.get(reason, 0) + number
    most = max((sum(reasons.values()) for reasons in counts.values()), default=0)
    order = sorted(totals, key=lambda reason: (-totals[reason], reason))
    bars = [_bar(span, start, step, counts[start], order, most) for start in sorted(counts)]
    return Chart(bars, [(reason, totals[reason]) for reason in order], most)


def _bar(span: Range, start: datetime, step: timedelta, reasons: dict[str, int], order: list[str], most: int) -> Bar:
    scale = WIDTH / (span.until - span.since).total_seconds()
    first, last = max(start, span.since), min(start + step, span.until)
    blocks, top = [], float(HEIGHT)
    for reason in (reason for reason in order if reason in reasons):
        height = HEIGHT * reasons[reason] / most
        top -= height
        blocks.append(Block(words(reason).colour, reasons[reason], round(top, 2), round(height, 2)))
    left, width = (first - span.since).total_seconds() * scale, (last - first).total_seconds() * scale
    return Bar(first, last, round(left, 2), round(max(width - 1, 1), 2), blocks)


def reasons_of(totals: list[tuple[str, int]]) -> list[tuple[str, Any, int]]:
    """The legend: [(colour, name, number of moves)] for each reason."""
    names = dict(Move.Reason.choices)
    return [(words(reason).colour, names.get(reason, reason), number) for reason, number in totals]
