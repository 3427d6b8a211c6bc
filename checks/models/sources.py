"""Sources of configs, with the errors and warnings of their last scan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.db import models, transaction
from django.db.models import ExpressionWrapper, F, Func, Q
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, Now

from checks.models.configs import Config
from checks.models.originkeys import source_in_words
from checks.wire import lint
from checks.wire.lint import Notice
from checks.wire.sharding import parent_of
from clusteragent.lib import conf
from clusteragent.lib.clock import ago

# The phase of a watched source that nobody watches any more.
OFF = "off"


class SourceQuerySet(models.QuerySet["Source"]):
    """Queries of sources, and the warnings of those that are not scanned."""

    def replace_warnings(self, name: str, keys: Collection[str], found: Sequence[Notice]) -> None:
        """Replace the warnings about these keys of a source that is not scanned."""
        with transaction.atomic():
            # Under the row's lock, so that two writers do not lose each other's warnings.
            row = self.select_for_update(no_key=True).filter(name=name).first()
            if row is None and found:
                row, _ = self.get_or_create(name=name, defaults={"read_at": Now()})
            if row is not None:
                others = [Notice(**one) for one in row.warnings if one["where"] not in keys]
                warnings = sorted([*others, *found], key=lint.by_place)
                row.note_scan(read=True, findings={"warnings": warnings}, left_out=row.left_out)

    def watched(self) -> SourceQuerySet:
        """Sources that the leader's process watches."""
        return self.exclude(state={})

    def off(self) -> SourceQuerySet:
        """Watched sources that nobody watches any more."""
        return self.filter(state__phase=OFF)

    def awaited(self) -> SourceQuerySet:
        """Sources that were never read, unless they are watched and something is in the way."""
        return self.filter(Q(state={}) | Q(state__phase="listing"), read_at=None)

    def note_watch(self, name: str, state: dict[str, Any], *, read: bool) -> None:
        """Store what the process that watches a source is doing, as a sign of life. read: all changes are heard."""
        stamps = {"scanned_at": Now(), "scanned_by": conf.REPLICA} | ({"read_at": Now()} if read else {})
        self.filter(name=name).update(state=state, **stamps)

    def warnings_about(self, config: Config) -> list[Notice]:
        """Return the warnings about the origins of a config."""
        return [Notice(**one) for one in self._about(config, "warnings")]

    def errors_about(self, config: Config) -> list[tuple[str, str | None, str]]:
        """Return [(where, line, error)]: why its origins can't be read now, so that the config is the last good one."""
        return [(one["where"], one["line"], one["error"]) for one in self._about(config, "errors")]

    def _about(self, config: Config, field: str) -> list[dict[str, Any]]:
        """What a field of sources, `errors` or `warnings`, has about the origins of a config."""
        places = {(origin.source, parent_of(origin.key)) for origin in config.origins.all()}
        rows = self.filter(name__in={source for source, _ in places}).values_list("name", field)
        return [one for name, found in rows for one in found if (name, one["where"]) in places]

    def with_counts(self) -> SourceQuerySet:
        """Annotate sources with `errors_number`, `warnings_number`, `passed_over_number`, `held_removals_number`, and the
        durations `read_age` and `scan_age`. The lists themselves are deferred.
        """
        number = models.IntegerField()
        numbers = {
            f"{field}_number": Func(F(field), function="jsonb_array_length", output_field=number)
            + Coalesce(Cast(KT(f"left_out__{field}"), number), 0)
            for field in ("errors", "warnings", "passed_over", "held_removals")
        }
        ages = {
            age: ExpressionWrapper(Now() - F(time), models.DurationField())
            for age, time in (("read_age", "read_at"), ("scan_age", "scanned_at"))
        }
        return self.annotate(**numbers, **ages).defer("errors", "warnings", "passed_over", "held_removals")


class Source(models.Model):
    """A source of configs, the findings of its last scan, and the removals that it holds."""

    # The most errors that are stored, the most warnings, and the most configs passed over.
    MOST_STORED = 1000

    name = models.CharField(max_length=253, unique=True)
    # The last scan that could read the source; null before the first.
    read_at = models.DateTimeField(null=True)
    scanned_at = models.DateTimeField(null=True)
    scanned_by = models.CharField(max_length=253, db_default="")
    # [{"where": "postgres.d/conf.yaml", "line": 3, "error": "…"}]
    errors = models.JSONField(default=list)
    # [{"where": "http_check.d/conf.yaml", "line": 3, "warning": "…"}]: configs that are sent, but probably not as meant.
    warnings = models.JSONField(default=list, db_default=[])
    # Files that are listed but never dispatched: [{"where": …, "why": "a template: it has ad_identifiers and no node_name"}]
    passed_over = models.JSONField(default=list)
    # How many more of these there are than are stored: {"errors": 2000}.
    left_out = models.JSONField(default=dict, db_default={})
    # Keys of origins whose removal waits until an operator accepts it or the files are back.
    held_removals = models.JSONField(default=list)
    # Those of them that an operator accepted, until the next sync of the source removes them, and who accepted them last.
    accepted_removals = models.JSONField(default=list, db_default=[])
    accepted_by = models.CharField(max_length=253, blank=True, default="", db_default="")
    # Of a source that is watched: {"phase": "away", "since": …, "why": …, "watches": [{"resource": "services", "phase": …}]}.
    state = models.JSONField(default=dict, db_default={})

    objects = SourceQuerySet.as_manager()

    def __str__(self) -> str:
        return source_in_words(self.name)

    def note_scan(
        self,
        *,
        read: bool,
        findings: Mapping[str, Sequence[Any]],
        left_out: Mapping[str, int] | None = None,
        **removals: list[str],
    ) -> None:
        """Store the findings of a scan by this replica, {field: named tuples}: of each the first MOST_STORED, and their number.

        left_out: how many there are besides, {field: number}. read: the source could be read.
        """
        rows = {name: [one._asdict() for one in found[: self.MOST_STORED]] for name, found in findings.items()}
        more = {
            name: len(found) - len(rows[name]) + (left_out or {}).get(name, 0)
            for name, found in findings.items() if found
        }  # fmt: skip
        others = {name: number for name, number in self.left_out.items() if name not in findings}
        values = {**rows, **removals, "left_out": others | {name: number for name, number in more.items() if number}}
        changed = {name: value for name, value in values.items() if getattr(self, name) != value}
        # Unchanged lists are not written again, since they may be long.
        stamps = {"scanned_at": Now(), "scanned_by": conf.REPLICA} | ({"read_at": Now()} if read else {})
        Source.objects.filter(pk=self.pk).update(**stamps, **changed)


class SourceScanQuerySet(models.QuerySet["SourceScan"]):
    """Records which replicas scan which sources."""

    def note(self, source: Source) -> None:
        """Record that this replica scans the source now, and delete scans older than the removal grace."""
        self.filter(source=source, scanned_at__lt=ago(conf.REMOVAL_GRACE)).delete()
        self.update_or_create(source=source, replica=conf.REPLICA, defaults={"scanned_at": Now()})

    def of_others_lately(self, source: Source) -> set[str]:
        """Return the other replicas that scanned the source within the removal grace."""
        lately = self.filter(source=source, scanned_at__gte=ago(conf.REMOVAL_GRACE))
        return set(lately.exclude(replica=conf.REPLICA).values_list("replica", flat=True))


class SourceScan(models.Model):
    """When a replica last scanned a source. Other replicas remove what it alone sent only after the removal grace."""

    source = models.ForeignKey(Source, models.CASCADE)
    replica = models.CharField(max_length=253)
    scanned_at = models.DateTimeField(db_default=Now())

    objects = SourceScanQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "replica"], name="sourcescan_source_replica")]

    def __str__(self) -> str:
        return f"{self.source_id} by {self.replica}"
