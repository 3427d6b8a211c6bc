"""Syncs the store with the sources: schedules new configs, changes changed ones, unschedules those that are gone.

Keys that a scan can't read keep what they sent. Removals that look like an accident are held until they are accepted.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace

import structlog

from checks import dispatcher
from checks.models import ClusterStore, Origin, Source, SourceScan
from checks.models.map import NotLeader
from checks.sources import files, guards, origins
from checks.sources.origins import Admitted
from checks.sources.source import BrokenConfig, ConfigSource, Found, Judgement, PassedOver, Problem, Unsettled
from checks.wire import lint
from checks.wire.lint import Notice
from checks.wire.patching import UnpatchableConfig
from checks.wire.scrub import scrub
from clusteragent.lib import conf, locks

ACTOR = "autoconf"

SOURCES: tuple[ConfigSource, ...] = (files.FileSource(),)

log = structlog.get_logger()


@dataclass(slots=True)
class Report:
    """The result of a sync. added, changed, removed and held are keys of origins.

    other_checks: number of configs that are no cluster checks. unsettled: something is being written, so sync again in a
    second.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    other_checks: int = 0
    unsettled: bool = False


def sync(
    term: int | None = None, accept_removals: bool = False, sources: Iterable[ConfigSource] | None = None
) -> Report:
    """Scan the sources and send the dispatcher what differs from the store. Return what was found and done.

    accept_removals: remove what would be held. sources: SOURCES unless given. Each chunk of 1 000 configs is a transaction of
    its own. Raises NotLeader or SyncUnderWay.
    """
    report = Report()
    with guards.exclusively(locks.Lock.SYNC):
        if term is not None and not ClusterStore.objects.filter(term=term).exists():
            # The dispatcher checks the term again before it writes. This check avoids reading everything for nothing.
            raise NotLeader(f"term {term} is over")
        for source in SOURCES if sources is None else sources:
            _SourceSync(source, term, report).run(accept_removals)
    return report


def sync_settled(accept_removals: bool = False, patience: float = 10.0) -> Report:
    """Sync repeatedly until no file is being written, for at most `patience` seconds. Raises SyncUnderWay.

    The report has the changes of all syncs, and the findings of the last one.
    """
    report, deadline = sync(accept_removals=accept_removals), time.monotonic() + patience
    while report.unsettled and time.monotonic() < deadline:
        time.sleep(files.SETTLED_AFTER)
        later = sync(accept_removals=accept_removals)
        changes = {name: getattr(report, name) + getattr(later, name) for name in ("added", "changed", "removed")}
        report = replace(later, **changes)
    return report


class _SourceSync:
    """One sync of one source."""

    def __init__(self, source: ConfigSource, term: int | None, report: Report) -> None:
        self.source, self.term, self.report = source, term, report
        self.row, _ = Source.objects.get_or_create(name=source.name)
        # Before anything is sent: else another replica could take it for configs that no replica scans any more.
        SourceScan.objects.note(self.row)
        self.scan = source.scan()
        self.known = origins.known(source.name)
        self.judged: dict[str, Judgement] = {}
        self.admitted: list[Admitted] = []

    def run(self, accept_removals: bool) -> None:
        """Send what differs from the store, remove what is gone unless it is held, and store the findings."""
        for found in self.scan.found:
            self._judge(found)
        sends = {key: one for key, one in self.judged.items() if one.fingerprint}
        kept = self._kept(self.known.keys() - sends.keys())
        comparison = origins.compare(self.known, sends, replica=conf.REPLICA, kept=kept)
        origins.send(self.admitted, self.known, source=self.source.name, term=self.term, actor=ACTOR)
        still_true = {key: known for key, known in self.source.memory.items() if self.scan.keeps(key)}
        self.source.memory = still_true | self.judged
        # After sending, since a renamed file is no loss once it is sent under its new name.
        held = guards.held_removals(self.source.name, comparison.gone, self.known, self.row.held_removals)
        removed = [key for key in comparison.gone if accept_removals or key not in held]
        if self.scan.arriving - self.known.keys():
            # A new file that is being written may be a renamed one.
            held, removed = held & set(self.row.held_removals), []
        origins.remove(self.source.name, removed, self.known, term=self.term, actor=ACTOR)
        self._disown()
        if comparison.added or comparison.changed or removed:
            counts = {"added": len(comparison.added), "changed": len(comparison.changed), "removed": len(removed)}
            log.info("configs_synced", source=self.source.name, **counts)
        self.report.added += comparison.added
        self.report.changed += comparison.changed
        self.report.removed += removed
        self._write_down(sorted(held - set(removed)))

    def _judge(self, found: Found) -> None:
        """Judge a found config. It is read only when its version is new to this process, or the store lost what it sends."""
        judgement, known = self.source.memory.get(found.key), self.known.get(found.key)
        is_lost = judgement and judgement.fingerprint and not (known and known.has(judgement, conf.REPLICA))
        if judgement is None or judgement.version != found.version or is_lost:
            try:
                judgement, admitted = _read(found, self.source.name)
            except Unsettled:
                self.scan.unsettled.add(found.key)
                self.scan.kept.add(found.key)
                return
            # Only what differs is kept: a new process reads all configs, and there may be very many.
            if admitted and not (known and known.has(judgement, conf.REPLICA)):
                self.admitted.append(admitted)
        self.judged[found.key] = judgement

    def _kept(self, unsent: Collection[str]) -> set[str]:
        """Those of the known keys that keep what they sent: they can't be read, or another replica sent them and may still have
        them.
        """
        others = SourceScan.objects.of_others_lately(self.row)
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
        row, unsettled = self.row, self.scan.unsettled
        outcomes = [judgement.outcome for judgement in self.judged.values()]
        missing = self.scan.missing if self.known else []
        problems = [*self.scan.problems, *missing, *(one for one in outcomes if isinstance(one, Problem))]
        problems += [Problem(**one) for one in row.errors if one["where"] in unsettled]
        passed_over = [one for one in outcomes if isinstance(one, PassedOver)]
        passed_over += [PassedOver(**one) for one in row.passed_over if one["where"] in unsettled]
        warnings = lint.notices((key, one.check, one.linted) for key, one in self.judged.items())
        warnings += [Notice(**one) for one in row.warnings if one["where"] in unsettled]
        self._log(problems, warnings, held)
        row.note_scan(
            read=self.scan.readable and not missing,
            errors=[asdict(one) for one in problems],
            warnings=lint.rows(warnings),
            passed_over=[asdict(one) for one in passed_over],
            held_removals=held,
        )
        self.report.errors += problems
        self.report.warnings += warnings
        self.report.passed_over += passed_over
        self.report.held += held
        # Checks that node agents run by themselves.
        self.report.other_checks += sum(not one.fingerprint and one.outcome is None for one in self.judged.values())
        self.report.unsettled |= bool(unsettled)

    def _log(self, problems: list[Problem], warnings: list[Notice], held: list[str]) -> None:
        """Log new problems and warnings, not those of the last scan again."""
        for problem in problems:
            if asdict(problem) not in self.row.errors:
                log.warning("config_broken", source=self.source.name, **asdict(problem))
        known = {Notice(**one) for one in self.row.warnings}
        for notice in warnings[: lint.MOST_STORED]:
            if notice not in known:
                log.warning("config_odd", source=self.source.name, **notice._asdict())
        if held and held != self.row.held_removals:
            log.warning("removals_held", source=self.source.name, held=len(held))


def _read(found: Found, source: str) -> tuple[Judgement, Admitted | None]:
    """Read a config and admit it if it is to be dispatched. Raises Unsettled."""
    try:
        config, linted, text = found.read()
    except BrokenConfig as error:
        problem = Problem(found.key, error.line, scrub(str(error)))
        return Judgement(found.version if error.lasting else None, outcome=problem), None
    judgement = Judgement(found.version, check=config.name, linted=linted)
    try:
        admitted = origins.admit(source, found.key, config, conf.REPLICA, text=text)
    except dispatcher.Refused as refusal:
        why = "a template: it has ad_identifiers and no node_name" if config.is_template else str(refusal)
        # Checks of the node agents themselves share the folders.
        is_ours = config.is_template or config.cluster_check or config.is_endpoint
        return replace(judgement, outcome=PassedOver(found.key, why) if is_ours else None), None
    except UnpatchableConfig as error:
        return replace(judgement, outcome=Problem(found.key, None, scrub(str(error)))), None
    left_out = Problem(found.key, None, scrub(admitted.problem)) if admitted.problem else None
    judgement = replace(judgement, fingerprint=admitted.fingerprint, written_hash=admitted.written_hash)
    return replace(judgement, outcome=left_out, linted=linted.besides(admitted.warning)), admitted
