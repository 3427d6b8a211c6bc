"""Syncs the store with the sources: schedules new configs, changes changed ones, unschedules those that are gone.

Keys that a scan can't read keep what they sent. Removals that look like an accident are held until they are accepted.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import structlog

from checks import dispatcher
from checks.models import ClusterStore, Origin, Source, SourceScan, bounds
from checks.models.sources import OFF
from checks.sources import files, guards, httpsd, origins, reading, recording
from checks.sources.origins import Admitted, Known
from checks.sources.reading import Ahead
from checks.sources.source import (
    ConfigSource,
    Findings,
    Found,
    Judgement,
    PassedOver,
    Problem,
    Unsettled,
)
from checks.wire import lint
from checks.wire.lint import Notice
from clusteragent.lib import locks
from clusteragent.lib.scrub import scrub as scrub_text
from clusteragent.lib.traces import span

ACTOR = "autoconf"
# For so many seconds a sync waits for files that are being written.
PATIENCE = 10.0
# So many keys of each kind are told in the act of what a scan did.
MOST_NAMED = 100

SOURCES: tuple[ConfigSource, ...] = (files.FileSource(), httpsd.by_options())

log = structlog.get_logger()


@dataclass(slots=True)
class Report:
    """The result of a sync. added, changed, removed, held and accepted are keys of origins.

    other_checks: number of configs that are no cluster checks. left_out: how many more findings there are than are listed,
    {"errors": 2000}. unsettled: something is being written, so sync again in a second.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    other_checks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unsettled: bool = False

    def number(self, kind: str) -> int:
        """Return how many findings of a kind there are, listed or not: errors, warnings or passed_over."""
        return len(getattr(self, kind)) + self.left_out[kind]


def sync(
    term: int | None = None,
    accept_removals: bool = False,
    sources: Iterable[ConfigSource] | None = None,
    *,
    actor: str = "",
    is_recorded: bool = False,
) -> Report:
    """Scan the sources and send the dispatcher what differs from the store. Return what was found and done.

    term: of the leader; without it, sources that only the leader scans are left out. accept_removals: remove what would be
    held, on record as done by `actor`. sources: SOURCES unless given. Each chunk of 1 000 configs is a transaction of its own.
    is_recorded: it is part of an act that the caller has recorded. Raises NotLeader or SyncUnderWay.
    """
    chosen = list(SOURCES if sources is None else sources)
    with recording.recorded(chosen, accept_removals=accept_removals, is_begun=is_recorded) as outcome:
        report = _sync_all(chosen, term, accept_removals, actor)
        outcome.told = _told(report)
    return report


def _told(report: Report) -> dict[str, Any]:
    """What an act tells of a sync: how many keys were added, changed and removed or are held, and the first; and of errors."""
    found: dict[str, Any] = {}
    for name in ("added", "changed", "removed", "held"):
        if keys := getattr(report, name):
            found |= {f"{name}_number": len(keys), name: keys[:MOST_NAMED]}
    return found | ({"errors": number} if (number := report.number("errors")) else {})


def _sync_all(
    sources: Sequence[ConfigSource],
    term: int | None,
    accept_removals: bool,
    actor: str,
    ahead: Mapping[str, Ahead] = MappingProxyType({}),
) -> Report:
    report = Report()
    with guards.exclusively(locks.Lock.SYNC):
        if term is not None:
            # The dispatcher checks the term again before it writes. This check avoids reading everything for nothing.
            ClusterStore.objects.require(term)
        for source in sources:
            if term is None and source.is_leaders:
                continue
            if _is_known(source):
                held = ahead.get(source.name)
                _sync(source, term, report, accept_removals=accept_removals, actor=actor, ahead=held)
    return report


def _is_known(source: ConfigSource) -> bool:
    """Whether a source has something to sync. One that is not used any more has what it sent, whose removal the guards judge."""
    return source.is_used or Source.objects.filter(name=source.name).exists()


def read_ahead() -> dict[str, Ahead]:
    """Read all that `sync_settled` would read, {source's name: what it has}: for a sync in a transaction that must be short."""
    return {one.name: Ahead.of(one) for one in SOURCES if not one.is_leaders and _is_known(one)}


def sync_settled(
    accept_removals: bool = False,
    patience: float = PATIENCE,
    *,
    actor: str = "",
    ahead: Mapping[str, Ahead] = MappingProxyType({}),
) -> Report:
    """Sync repeatedly until no file is being written, for at most `patience` seconds. Raises SyncUnderWay.

    The report has the changes of all syncs, and the findings of the last one. ahead: what was read for the first one.
    """
    with recording.recorded(SOURCES, accept_removals=accept_removals) as outcome:
        report = _settled(accept_removals, patience, actor, ahead)
        outcome.told = _told(report)
    return report


def _settled(accept_removals: bool, patience: float, actor: str, ahead: Mapping[str, Ahead]) -> Report:
    report, deadline = _sync_all(SOURCES, None, accept_removals, actor, ahead), time.monotonic() + patience
    while report.unsettled and time.monotonic() < deadline:
        time.sleep(files.SETTLED_AFTER)
        later = _sync_all(SOURCES, None, accept_removals, actor)
        changes = {name: getattr(report, name) + getattr(later, name) for name in ("added", "changed", "removed")}
        report = replace(later, **changes)
    return report


def add_watched(report: Report, accept_removals: bool = False, *, actor: str = "") -> None:
    """Add to a report what the leader found last in sources that it alone watches or scans.

    accept_removals: it removes what it holds now, when it looks at them next.
    """
    for row in Source.objects.filter(name__in=leaders_names()).order_by("name"):
        found = _stored(row)
        report.errors += found.errors
        report.warnings += found.warnings
        report.passed_over += found.passed_over
        report.left_out.update(found.left_out)
        if accept_removals:
            report.accepted += row.held_removals
            accept_removals_of(row, actor=actor)
        else:
            report.held += row.held_removals


def leaders_names() -> set[str]:
    """Return the names of the sources that the leader alone watches or scans."""
    return {*Source.objects.watched().values_list("name", flat=True), *(one.name for one in SOURCES if one.is_leaders)}


def accept_removals_of(row: Source, *, actor: str) -> None:
    """Let the next sync of a source remove what it held when the row was read, on record as done by `actor`.

    If it was watched and nobody watches it any more, do it now. Raises Outside for who may not touch all of them.
    """
    bounds.require_source("checks.change_source", row.name, row.held_removals)
    if row.held_removals:
        recording.record_accepted(row.name, [row])
    if row.state.get("phase") == OFF:
        known = origins.known(row.name)
        origins.remove(row.name, known.keys() & set(row.held_removals), known, actor=actor)
        Source.objects.filter(pk=row.pk).update(held_removals=[])
    else:
        Source.objects.filter(pk=row.pk).update(accepted_removals=row.held_removals, accepted_by=actor)


def sync_watched(source: ConfigSource, term: int) -> Report:
    """Sync with a source that only the leader's process of this term reads. Raises NotLeader."""
    ClusterStore.objects.require(term)
    report = Report()
    _sync(source, term, report)
    return report


def _sync(
    source: ConfigSource,
    term: int | None,
    report: Report,
    *,
    accept_removals: bool = False,
    actor: str = "",
    ahead: Ahead | None = None,
) -> None:
    with span("sync", source=scrub_text(source.name)) as syncing:
        syncing.set_attributes(_SourceSync(source, term, report, ahead).run(accept_removals, actor))


class _SourceSync:
    """One sync of one source."""

    def __init__(self, source: ConfigSource, term: int | None, report: Report, ahead: Ahead | None = None) -> None:
        self.source, self.term, self.report = source, term, report
        self.row, _ = Source.objects.get_or_create(name=source.name)
        if not source.is_shared:
            # Before anything is sent: else another replica could take it for configs that no replica scans any more.
            SourceScan.objects.note(self.row)
        self.ahead = ahead
        self.scan = ahead.scan if ahead else source.scan()
        # What a part does not look at is as it was found before: all of it, of which the store has the first.
        self.before = (self.scan.part and source.findings) or _stored(self.row)
        self.known = origins.known(source.name, self.scan.part.beginnings if self.scan.part else None)
        self.places = {found.key: found.where for found in self.scan.found if found.place}
        self.judged: dict[str, Judgement] = {}
        self.admitted: list[Admitted] = []

    def run(self, accept_removals: bool, actor: str) -> dict[str, int]:
        """Send what differs from the store, remove what is gone unless it is held, and store the findings.

        accept_removals: `actor` accepts all that is held; else only what the row says that somebody accepted is removed.
        Returns how many configs were added, changed and removed.
        """
        for found in self.scan.found:
            self._judge(found)
            if len(self.admitted) >= dispatcher.CHUNK:
                self._send()
        self._send()
        sends = {key: one for key, one in self.judged.items() if one.fingerprint}
        comparison = origins.compare(
            self.known, sends, replica=self.source.replica, kept=self._kept(self.known.keys() - sends.keys())
        )
        self.source.remember(self.scan, self.judged)
        # After sending, since a renamed file is no loss once it is sent under its new name.
        suspicious = self._held(comparison.gone)
        accepted = suspicious if accept_removals else suspicious & set(self.row.accepted_removals)
        held = suspicious - accepted
        removed = [key for key in comparison.gone if key not in held]
        if self.scan.arriving - self.known.keys():
            # A new file that is being written may be a renamed one.
            held, removed = suspicious & set(self.row.held_removals), []
        # What somebody accepted bears their name, the rest is the source's doing.
        by_person = actor if accept_removals else self.row.accepted_by
        for actor_, keys in ((by_person or ACTOR, accepted.intersection(removed)), (ACTOR, set(removed) - accepted)):
            origins.remove(self.source.name, sorted(keys), self.known, term=self.term, actor=actor_)
        self._disown()
        counts = {"added": len(comparison.added), "changed": len(comparison.changed), "removed": len(removed)}
        if any(counts.values()):
            log.info("configs_synced", source=self.source.name, **counts)
        self.report.added += comparison.added
        self.report.changed += comparison.changed
        self.report.removed += removed
        self._write_down(sorted(held - set(removed)))
        return counts

    def _send(self) -> None:
        """Send the admitted configs. In batches, since they take memory."""
        before = {one.key: self.known[one.key] for one in self.admitted if one.key in self.known}
        origins.send(self.admitted, before, source=self.source.name, term=self.term, actor=ACTOR)
        self.admitted = []

    def _held(self, gone: list[str]) -> set[str]:
        """The keys whose removal waits until it is accepted, and those that were accepted."""
        if self.scan.part:
            return set()
        return guards.held_removals(self.source.name, gone, self.known, self.row.held_removals)

    def _judge(self, found: Found) -> None:
        """Judge a found config. It is read only when its version is new to this process, or the store lost what it sends."""
        known = self.known.get(found.key)
        if (judgement := reading.judged(found, self.source, known)) is None:
            try:
                judgement, admitted = self._read(found, known)
            except Unsettled:
                self.scan.unsettled.add(found.key)
                self.scan.kept.add(found.key)
                return
            # Only what differs is kept: a new process reads all configs, and there may be very many.
            if admitted and not (known and known.has(judgement, self.source.replica)):
                self.admitted.append(admitted)
        self.judged[found.key] = judgement

    def _read(self, found: Found, known: Known | None) -> tuple[Judgement, Admitted | None]:
        """Read a config; where that was done ahead, nothing is read now. Raises Unsettled."""
        if self.ahead:
            if found.key not in self.ahead.read:
                raise Unsettled
            return self.ahead.read[found.key]
        return reading.read(found, self.source, known)

    def _kept(self, unsent: Collection[str]) -> set[str]:
        """Those of the known keys that keep what they sent: they can't be read, or another replica sent them and may still have
        them.
        """
        others = set() if self.source.is_shared else SourceScan.objects.of_others_lately(self.row)
        broken = {key for key, one in self.judged.items() if isinstance(one.outcome, Problem)}
        known = self.known
        return {key for key in unsent if key in broken or known[key].replicas & others or self.scan.keeps(key)}

    def _disown(self) -> None:
        """Let configs that a broken key shares with other origins name only those. The config itself is still sent."""
        broken = [key for key, one in self.judged.items() if isinstance(one.outcome, Problem) and not one.fingerprint]
        sent = {origin for key in broken if key in self.known for origin in self.known[key].origins}
        shared = sent - Origin.objects.sole_senders(self.source.name, sent) if sent else set()
        dispatcher.name_other_origins([(self.source.name, origin) for origin in shared], term=self.term)

    def _write_down(self, held: list[str]) -> None:
        """Add the findings to the report, log new ones, and store them. Previous ones of files that are being written stay."""
        row, part, found = self.row, self.scan.part, self._findings()
        self._log(found, held)
        if part:
            held = [key for key in row.held_removals if not part.covers(key)]
        row.note_scan(
            read=self.scan.readable and not (self.scan.missing and self.known),
            findings={"errors": found.errors, "warnings": found.warnings, "passed_over": found.passed_over},
            left_out=found.left_out,
            held_removals=held,
            accepted_removals=[key for key in row.accepted_removals if key in held],
        )
        self.source.findings = found
        self.report.errors += found.errors
        self.report.warnings += found.warnings
        self.report.passed_over += found.passed_over
        self.report.held += held
        # Checks that node agents run by themselves.
        self.report.other_checks += sum(not one.fingerprint and one.outcome is None for one in self.judged.values())
        self.report.unsettled |= bool(self.scan.unsettled)

    def _findings(self) -> Findings:
        """What is wrong with the source now, by place. What was found before at places that were not looked at stays."""
        scan, before, stays = self.scan, self.before, self.scan.leaves
        outcomes = [judgement.outcome for judgement in self.judged.values()]
        problems = [*scan.problems, *(scan.missing if self.known else [])]
        problems += [one for one in outcomes if isinstance(one, Problem)]
        passed_over = [*scan.passed_over, *(one for one in outcomes if isinstance(one, PassedOver))]
        judged = ((self.places.get(key, key), one.check, one.linted) for key, one in self.judged.items())
        # What is wrong with several configs of one place is said once.
        found = Findings(
            errors=[*dict.fromkeys(problems), *(one for one in before.errors if stays(one.where))],
            warnings=[*scan.warnings, *lint.notices(judged), *(one for one in before.warnings if stays(one.where))],
            passed_over=[*dict.fromkeys(passed_over), *(one for one in before.passed_over if stays(one.where))],
            left_out=before.left_out if scan.part else {},
        )
        for each in (found.errors, found.warnings, found.passed_over):
            each.sort(key=lambda one: one.where)
        return found

    def _log(self, found: Findings, held: list[str]) -> None:
        """Log new problems and warnings, not those of the last scan again, and no more than are stored."""
        known_problems, known = set(self.before.errors), set(self.before.warnings)
        for problem in found.errors[: Source.MOST_STORED]:
            if problem not in known_problems:
                log.warning("config_broken", source=self.source.name, **problem._asdict())
        for notice in found.warnings[: Source.MOST_STORED]:
            if notice not in known:
                log.warning("config_odd", source=self.source.name, **notice._asdict())
        if held and held != self.row.held_removals:
            log.warning("removals_held", source=self.source.name, held=len(held))


def _stored(row: Source) -> Findings:
    """The findings of a source that its row has."""
    return Findings(
        errors=[Problem(**one) for one in row.errors],
        warnings=[Notice(**one) for one in row.warnings],
        passed_over=[PassedOver(**one) for one in row.passed_over],
        left_out=row.left_out,
    )
