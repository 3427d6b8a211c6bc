"""The sources in the admin: what each scan found, and scanning again."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from checks import sources
from checks.models import Source
from checks.wire.scrub import scrub
from clusteragent.lib.words import ago, plain_count
from operators.admin.base import ReadOnlyAdmin, Table

MOST_PROBLEMS = 200


@admin.register(Source)
class SourceAdmin(ReadOnlyAdmin):
    """The sources, with the errors and warnings of the last scan."""

    list_display = (
        "name",
        "read",
        "scanned",
        "scanned_by",
        "errors_number",
        "warnings_number",
        "passed_over_number",
        "held_removals_number",
    )
    fields = readonly_fields = list_display
    actions = ("scan_now", "accept_removals")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        return Source.objects.with_counts().order_by("name")

    @display(description="last read")
    def read(self, source: Any) -> str:
        """How long ago the source was last read."""
        return ago(source.read_age) or "never"

    @display(description="last scan")
    def scanned(self, source: Any) -> str:
        """How long ago the last scan was."""
        return ago(source.scan_age) or "never"

    @display(description="errors", label={0: "success"})
    def errors_number(self, source: Any) -> int:
        """The number of errors."""
        return int(source.errors_number)

    @display(description="warnings")
    def warnings_number(self, source: Any) -> int:
        """The number of warnings."""
        return int(source.warnings_number)

    @display(description="passed over")
    def passed_over_number(self, source: Any) -> int:
        """The number of files that were passed over."""
        return int(source.passed_over_number)

    @display(description="held removals")
    def held_removals_number(self, source: Any) -> int:
        """The number of held removals."""
        return int(source.held_removals_number)

    def row_actions(self, request: HttpRequest, source: Any) -> list[str]:
        return ["scan_now", *(["accept_removals"] if source.held_removals_number else [])]

    def tables(self, request: HttpRequest, source: Any) -> list[Table]:
        source.refresh_from_db(fields=["errors", "warnings", "passed_over", "held_removals"])
        errors = [
            (scrub(one["where"]), one.get("line") or "", scrub(one["error"])) for one in source.errors[:MOST_PROBLEMS]
        ]
        warnings = [
            (scrub(one["where"]), one["line"] or "", scrub(one["warning"])) for one in source.warnings[:MOST_PROBLEMS]
        ]
        passed = [(scrub(one["where"]), scrub(one["why"])) for one in source.passed_over[:MOST_PROBLEMS]]
        held = [(scrub(key),) for key in source.held_removals[:MOST_PROBLEMS]]
        return [
            Table("Errors", ("where", "line", "error"), errors),
            Table("Warnings", ("where", "line", "warning"), warnings),
            Table("Held removals", ("key",), held),
            Table("Passed over", ("where", "why"), passed),
        ]

    @admin.action(description="Scan now", permissions=["change"])
    def scan_now(self, request: HttpRequest, queryset: QuerySet[Source]) -> None:
        """Scan the sources now."""
        self._sync(request, queryset, accept_removals=False)

    @admin.action(description="Accept removals", permissions=["change"])
    def accept_removals(self, request: HttpRequest, queryset: QuerySet[Source]) -> None:
        """Scan the sources now, and carry out the removals that were held."""
        self._sync(request, queryset, accept_removals=True)

    def _sync(self, request: HttpRequest, queryset: QuerySet[Source], *, accept_removals: bool) -> None:
        names = {source.name for source in queryset}
        chosen = [source for source in sources.SOURCES if source.name in names]
        try:
            report = sources.sync(accept_removals=accept_removals, sources=chosen)
        except sources.SyncUnderWay:
            messages.error(request, "Another scan is under way. Try again when it is over.")
            return
        if report.unsettled:
            messages.warning(request, "Some files are being written right now; the next scan takes them.")
        done = f"Scanned: {len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed"
        warnings = f", {plain_count(len(report.warnings), 'warning')}" if report.warnings else ""
        messages.success(
            request, f"{done}, {len(report.held)} held, {plain_count(len(report.errors), 'error')}{warnings}."
        )
