"""The sources in the admin: what each scan found, and scanning again."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.decorators import display

from checks import sources
from checks.explain.aftermath import Moving, refilled_after, told_refilled
from checks.models import Config, Source
from checks.models.bounds import require_source, why_not_source
from checks.sources import files, origins
from checks.wire.scrub import scrub
from clusteragent.lib.words import listed, moment, natural, plain_count
from operators.admin.base import ReadOnlyAdmin, Table, aged, list_url
from operators.admin.questions import Question, moving_table

MOST_PROBLEMS = 200
# So many of them are looked up in their files.
MOST_LOCATED = 20
# How many removals are listed where they are accepted. For more than one config in MUCH the source's name must be typed.
MOST_ASKED, MUCH = 100, 10
# What a source is doing; of one that nobody watches what came of the last reading.
_STATE = Coalesce(
    KeyTextTransform("phase", "state"),
    Case(When(errors_number__gt=0, then=Value("error")), When(read_at__isnull=False, then=Value("read"))),
    Value(""),
    output_field=TextField(),
)
UNDER_WAY = "Another scan is under way. Try again when it is over."


def _number(field: str) -> Callable[[Any, Any], int]:
    """A column with the number of a source's errors, warnings, …"""

    @display(description=field.replace("_", " "), ordering=f"{field}_number")
    def number(self: Any, source: Any) -> int:
        return getattr(source, f"{field}_number")

    return number


def _placed(
    source: Source, said: str, found: Sequence[dict[str, Any]]
) -> tuple[Sequence[str], Sequence[dict[str, Any]]]:
    """The columns and rows of what is wrong or odd in a source: of a file also its folder, and how the first lines begin."""
    if source.name != files.FileSource.name:
        return ("where", "line", said), found
    rows = []
    for row in found[:MOST_LOCATED]:
        folder, text = files.locate(row["where"], row["line"])
        rows.append(row | {"folder": folder, "text": text})
    return ("where", "line", "text", said, "folder"), [*rows, *found[MOST_LOCATED:]]


def scanned_names() -> set[str]:
    """The names of the sources that are scanned. Others are written by people or pipelines."""
    return {source.name for source in sources.SOURCES if not source.is_leaders}


def scan(names: Collection[str], *, is_recorded: bool = False) -> str:
    """Scan the sources with these names now, and return a sentence that says what was found. Raises SyncUnderWay and Outside."""
    for name in names:
        require_source("checks.change_source", name)
    chosen = [source for source in sources.SOURCES if source.name in names]
    report = sources.sync(sources=chosen, is_recorded=is_recorded)
    done = f"Scanned: {len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed"
    warnings = f", {plain_count(len(report.warnings), 'warning')}" if report.warnings else ""
    later = " Some files are being written right now; the next scan takes them." if report.unsettled else ""
    return f"{done}, {len(report.held)} held, {plain_count(len(report.errors), 'error')}{warnings}.{later}"


def accept(source: Source, *, actor: str) -> str:
    """Accept the removals that the source held when it was read, and return sentences that say so. Raises SyncUnderWay.

    A source that is scanned is scanned now. What the leader watches, it removes within a second or so.
    """
    sources.accept_removals_of(source, actor=actor)
    told = f"{plain_count(len(source.held_removals), 'removal')} accepted."
    if source.name not in scanned_names():
        return told
    return f"{told} {scan([source.name], is_recorded=bool(source.held_removals))}"


@admin.register(Source)
class SourceAdmin(ReadOnlyAdmin):
    """The sources, with the errors and warnings of the last scan."""

    empty = "A source is listed once it was read: a folder of files, Kubernetes, a URL, a pipeline, or people in this admin."
    list_display = fields = readonly_fields = (
        "called", "doing", "read", "scanned", "scanned_by", "errors_number", "warnings_number", "passed_over_number",
        "held_removals_number",
    )  # fmt: skip
    greatest_first = ("errors_number", "warnings_number", "passed_over_number", "held_removals_number")
    actions = ("scan_now", "accept_removals")
    # What is wrong there is what most come for.
    change_form_outer_before_template = "admin/troubles_first.html"
    change_form_outer_after_template = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        return Source.objects.with_counts().annotate(now=Now()).order_by("name")

    @display(description="name", ordering="name")
    def called(self, source: Source) -> str:
        """What people call it."""
        return str(source)

    @display(description="state", ordering=_STATE)
    def doing(self, source: Any) -> str:
        """What the process that watches the source is doing, and why; of others what came of the last reading."""
        state = source.state
        if not state and source.read_at:
            return plain_count(source.errors_number, "error") if source.errors_number else "read"
        if without := [one["resource"] for one in state.get("watches", []) if one["phase"] == "refused"]:
            return f"{state.get('phase', '')}, without {listed(without)}"
        return ": ".join(filter(None, (state.get("phase", ""), scrub(state.get("why") or ""))))

    @display(description="last read", ordering="read_age")
    def read(self, source: Any) -> SafeString | str:
        """How long ago the source was last read."""
        return aged(source.read_at, source.now) or "never"

    @display(description="last scan", ordering="scan_age")
    def scanned(self, source: Any) -> SafeString | str:
        """How long ago the last scan was."""
        return aged(source.scanned_at, source.now) or "never"

    def outside(self, permission: str, obj: Source) -> str:
        """Why a bound keeps the user from the source, and from all that it holds."""
        return why_not_source(permission, obj.name, obj.held_removals)

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
        held = [{"key": key} for key in sorted(source.held_removals, key=natural)]
        watches = [
            watch | {"since": moment(datetime.fromisoformat(watch["since"]))}
            for watch in source.state.get("watches", [])
        ]
        found = (
            *([("Watched", ("resource", "phase", "since", "why"), watches, 0)] if watches else []),
            ("Errors", *_placed(source, "error", source.errors), source.errors_number),
            ("Warnings", *_placed(source, "warning", source.warnings), source.warnings_number),
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
        names = {source.name for source in queryset}
        watched = sources.leaders_names() & names
        if others := names - watched - scanned_names():
            messages.error(request, f"{listed(sorted(others))}: not scanned, since people or pipelines write it.")
        if watched:
            messages.info(request, f"{listed(sorted(watched))}: not scanned, since the leader does it all the time.")
        if known := names - others - watched:
            try:
                messages.success(request, scan(known))
            except sources.SyncUnderWay:
                messages.error(request, UNDER_WAY)

    @admin.action(description="Accept removals…", permissions=["change"])
    def accept_removals(self, request: HttpRequest, queryset: QuerySet[Source]) -> HttpResponse | None:
        """Show what a source holds until that is confirmed, then carry the removals out."""
        chosen = list(Source.objects.filter(pk__in=queryset.values("pk")).exclude(held_removals=[]))
        if len(chosen) != 1:
            held = listed([source.name for source in chosen])
            messages.error(request, f"Choose one source: {held} hold removals." if held else "It holds no removals.")
            return None
        [source] = chosen
        if source.name not in sources.leaders_names() | scanned_names():
            messages.error(request, f"{source.name}: not scanned, since people or pipelines write it.")
            return None
        removal = _Removal.of_source(source)
        if page := removal.question(source).unanswered(request, list_url(Source), source):
            return page
        try:
            messages.success(request, accept(source, actor=request.user.get_username()))
        except sources.SyncUnderWay:
            messages.error(request, UNDER_WAY)
        return None


class _Removal(NamedTuple):
    """What accepting a source's removals would remove. of: the number of all configs. checks: how many configs of each check.

    stops: the configs that run and that nobody else sends, each with its node. filled: those that run nowhere and get the room.
    word: what must be typed to confirm it, if it is much; else empty. seen: a hash of the keys.
    """

    number: int
    of: int
    checks: Sequence[tuple[str, int]]
    stops: Sequence[Moving]
    filled: Sequence[Moving]
    word: str
    seen: str

    @classmethod
    def of_source(cls, source: Source) -> "_Removal":
        gone = origins.held(source)
        checks = Counter(gone.values_list("config__name", flat=True))
        stops = [Moving(*one, "") for one in origins.stopped_without(gone)]
        number, everything = checks.total(), Config.objects.count()
        seen = hashlib.sha256("\n".join(sorted(source.held_removals)).encode()).hexdigest()
        word = source.name if number * MUCH > everything else ""
        filled = refilled_after({one.config: None for one in stops})
        return cls(number, everything, checks.most_common(), stops, filled, word, seen)

    def question(self, source: Source) -> Question:
        """What somebody is asked before the removals are accepted."""
        keys = Table("Removed", ("origin",), [[scrub(key)] for key in source.held_removals[:MOST_ASKED]])
        if left := len(source.held_removals) - len(keys.rows):
            keys = replace(keys, title=f"Removed: the first {len(keys.rows)} of {len(keys.rows) + left}")
        checks = Table("By check", ("check", "configs"), [[scrub(name), number] for name, number in self.checks])
        return Question(
            f"Remove what {source} does not send any more",
            [
                "So many at once look like an accident. If the source sends them again, they stay.",
                *told_refilled(self.filled),
            ],
            [f"{self.number} of {self.of} configs would be removed."],
            [checks, *([moving_table("Would stop", self.stops)] if self.stops else []), keys],
            self.seen,
            self.word,
            "Remove them",
            moves=[*self.stops, *self.filled],
        )
