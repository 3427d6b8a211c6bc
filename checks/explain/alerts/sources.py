"""Alerts about sources: what is wrong, odd or held there."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.db.models.fields.json import KT

from checks.explain.alerts.kinds import Alert, Kind, Target
from checks.models import Origin, Source
from checks.models.troubles import MOST_CHARACTERS
from checks.wire import lint
from clusteragent.lib.words import cut, duration, plain_count

# A source that is watched counts as away when it was not read for so long.
AWAY = timedelta(minutes=1)


def of_sources(now: datetime) -> Iterator[Alert]:
    """What is wrong, odd or held at each source."""
    is_troubled = Q(errors_number__gt=0) | Q(held_removals_number__gt=0) | Q(warnings_number__gt=0)
    troubled: Any = Source.objects.with_counts().filter(is_troubled | ~Q(state={}))
    first = {f"error_{field}": KT(f"errors__0__{field}") for field in ("where", "line", "error")}
    first |= {f"warning_{field}": KT(f"warnings__0__{field}") for field in ("where", "line", "warning")}
    for source in troubled.annotate(**first).order_by("name"):
        if _is_away(source):
            yield Alert(
                Kind.SOURCE_AWAY, 1, _why_away(source), Target.row(source), now, source.read_at, subject=source.name
            )
        if source.errors_number:
            cause = _first_problem(
                source, source.errors_number, source.error_where, source.error_line, source.error_error
            )
            yield Alert(Kind.SOURCE_ERROR, source.errors_number, cause, Target.row(source), now, subject=source.name)
        if source.held_removals_number:
            held = plain_count(source.held_removals_number, "removal")
            cause = (
                f"Source {source.name}: {held} held until what sent them is back or an operator accepts the removal."
            )
            yield Alert(
                Kind.HELD_REMOVALS, source.held_removals_number, cause, Target.row(source), now, subject=source.name
            )
        if source.warnings_number:
            cause = _first_problem(
                source, source.warnings_number, source.warning_where, source.warning_line, source.warning_warning
            )
            yield Alert(
                Kind.SOURCE_WARNING, source.warnings_number, cause, Target.row(source), now, subject=source.name
            )


def _is_away(source: Any) -> bool:
    """Whether a source that is watched was not read lately. A refusal is an error of the source already."""
    phase = source.state.get("phase", "refused")
    never = source.read_at is None and phase != "listing"
    if phase == "off" and not Origin.objects.filter(source=source.name).exists():
        return False
    return phase != "refused" and (never or (source.read_at is not None and source.read_age > AWAY))


def _why_away(source: Any) -> str:
    age = f"for {duration(source.read_age)}" if source.read_at else "yet"
    why = source.state.get("why") or "the leader's process that watches it gives no sign of life"
    return f"{source.name.capitalize()} has not been read {age}: {cut(why, MOST_CHARACTERS)}. What it has sent stays."


def _first_problem(source: Source, number: int, where: str, line: str | None, what: str) -> str:
    """The place and the text of a source's first problem, and how many more it has."""
    more = f" (and {number - 1} more)" if number > 1 else ""
    return f"{source.name}:{lint.place(where, line)}: {cut(what, MOST_CHARACTERS)}{more}"
