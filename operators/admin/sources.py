"""The sources in the admin: what each scan found, and scanning again."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from checks import sources
from checks.models import Source
from checks.wire.scrub import scrub
from clusteragent.lib.words import ago, listed, moment, plain_count
from operators.admin.base import ReadOnlyAdmin, Table

MOST_PROBLEMS = 200
UNDER_WAY = "Another scan is under way. Try again when it is over."


def _number(field: str) -> Callable[[Any, Any], int]:
    """A column with the number of a source's errors, warnings, …"""

    @display(description=field.replace("_", " "))
    def number(self: Any, source: Any) -> int:
        return getattr(source, f"{field}_number")

    return number


def scanned_names() -> set[str]:
    """The names of the sources that are scanned. Others are written by people or pipelines."""
    return {source.name for source in sources.SOURCES if not source.is_leaders}


def scan(names: Collection[str], *, accept_removals: bool = False) -> str:
    """Scan the sources with these names now, and return a sentence that says what was found. Raises SyncUnderWay.

    accept_removals: carry out the removals that are held.
    """
    chosen = [source for source in sources.SOURCES if source.name in names]
    report = sources.sync(accept_removals=accept_removals, sources=chosen)
    done = f"Scanned: {len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed"
    warnings = f", {plain_count(len(report.warnings), 'warning')}" if report.warnings else ""
    later = " Some files are being written right now; the next scan takes them." if report.unsettled else ""
    return f"{done}, {len(report.held)} held, {plain_count(len(report.errors), 'error')}{warnings}.{later}"


def accept(names: set[str]) -> str:
    """Accept the removals that these sources hold, and return sentences that say so. Raises SyncUnderWay.

    Sources that are scanned are scanned now. What the leader watches, it removes within a second or so.
    """
    scanned = names & scanned_names()
    told = [scan(scanned, accept_removals=True)] if scanned else []
    if watched := names - scanned:
        rows = list(Source.objects.filter(name__in=watched))
        for row in rows:
            sources.accept_removals_of(row)
        told.append(f"{plain_count(sum(len(row.held_removals) for row in rows), 'removal')} accepted.")
    return " ".join(told)


@admin.register(Source)
class SourceAdmin(ReadOnlyAdmin):
    """The sources, with the errors and warnings of the last scan."""

    list_display = fields = readonly_fields = (
        "name", "doing", "read", "scanned", "scanned_by", "errors_number", "warnings_number", "passed_over_number",
        "held_removals_number",
    )  # fmt: skip
    actions = ("scan_now", "accept_removals")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        return Source.objects.with_counts().order_by("name")

    @display(description="state")
    def doing(self, source: Any) -> str:
        """What the process that watches the source is doing, and why; empty for others."""
        state = source.state
        if without := [one["resource"] for one in state.get("watches", []) if one["phase"] == "refused"]:
            return f"{state.get('phase', '')}, without {listed(without)}"
        return ": ".join(filter(None, (state.get("phase", ""), scrub(state.get("why") or ""))))

    @display(description="last read")
    def read(self, source: Any) -> str:
        """How long ago the source was last read."""
        return ago(source.read_age) or "never"

    @display(description="last scan")
    def scanned(self, source: Any) -> str:
        """How long ago the last scan was."""
        return ago(source.scan_age) or "never"

    errors_number = _number("errors")
    warnings_number = _number("warnings")
    passed_over_number = _number("passed_over")
    held_removals_number = _number("held_removals")

    def row_actions(self, request: HttpRequest, source: Any) -> list[str]:
        is_scanned = source.name in scanned_names()
        can_accept = source.held_removals_number and (is_scanned or source.name in sources.leaders_names())
        return [*(["scan_now"] if is_scanned else []), *(["accept_removals"] if can_accept else [])]

    def tables(self, request: HttpRequest, source: Any) -> list[Table]:
        source.refresh_from_db(fields=["errors", "warnings", "passed_over", "held_removals"])
        held = [{"key": key} for key in source.held_removals]
        watches = [
            watch | {"since": moment(datetime.fromisoformat(watch["since"]))}
            for watch in source.state.get("watches", [])
        ]
        found = (
            *([("Watched", ("resource", "phase", "since", "why"), watches, 0)] if watches else []),
            ("Errors", ("where", "line", "error"), source.errors, source.errors_number),
            ("Warnings", ("where", "line", "warning"), source.warnings, source.warnings_number),
            ("Held removals", ("key",), held, source.held_removals_number),
            ("Passed over", ("where", "why"), source.passed_over, source.passed_over_number),
        )
        return [
            Table(
                f"{title}: the first {MOST_PROBLEMS} of {number}" if number > MOST_PROBLEMS else title,
                columns,
                [[scrub(str(row.get(name) or "")) for name in columns] for row in rows[:MOST_PROBLEMS]],
            )
            for title, columns, rows, number in found
        ]

    @admin.action(description="Scan now", permissions=["change"])
    def scan_now(self, request: HttpRequest, queryset: QuerySet[Source]) -> None:
        """Scan the sources now."""
        self._sync(request, queryset, accept_removals=False)

    @admin.action(description="Accept removals", permissions=["change"])
    def accept_removals(self, request: HttpRequest, queryset: QuerySet[Source]) -> None:
        """Carry out the removals that were held. Files are scanned for that."""
        self._sync(request, queryset, accept_removals=True)

    def _sync(self, request: HttpRequest, queryset: QuerySet[Source], *, accept_removals: bool) -> None:
        names = {source.name for source in queryset}
        watched = sources.leaders_names() & names
        if others := names - watched - scanned_names():
            messages.error(request, f"{listed(sorted(others))}: not scanned, since people or pipelines write it.")
        if watched and not accept_removals:
            messages.info(request, f"{listed(sorted(watched))}: not scanned, since the leader does it all the time.")
        known = names - others - (set() if accept_removals else watched)
        if not known:
            return
        try:
            messages.success(request, accept(known) if accept_removals else scan(known))
        except sources.SyncUnderWay:
            messages.error(request, UNDER_WAY)
