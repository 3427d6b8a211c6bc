"""Syncs the store with the sources: schedules new configs, changes changed ones, unschedules those that are gone.

Keys that a scan can't read keep what they sent. Removals that look like an accident are held until they are accepted.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

import structlog

from checks import dispatcher
from checks.models import ClusterStore, Origin, Source, SourceScan
from checks.models.map import NotLeader
from checks.sources import files, httpsd, origins
from checks.sources.guards import HELD_FROM, exclusively, look_accidental
from checks.sources.origins import Admitted
from checks.sources.source import BrokenConfig, ConfigSource, Found, Judgement, PassedOver, Problem, Unsettled
from checks.wire import lint
from checks.wire.lint import Notice
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from checks.wire.scrub import scrub
from clusteragent.lib import conf, locks

ACTOR = "autoconf"

SOURCES: tuple[ConfigSource, ...] = (files.FileSource(), httpsd.by_options())

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

    def followed_by(self, later: "Report") -> "Report":
        """Return both as one report: the changes of both, and the findings of the later one."""
        return replace(
            later,
            added=self.added + later.added,
            changed=self.changed + later.changed,
            removed=self.removed + later.removed,
        )


def sync(
    term: int | None = None, accept_removals: bool = False, sources: Iterable[ConfigSource] | None = None
) -> Report:
    """Scan the sources and send the dispatcher what differs from the store. Return what was found and done.

    accept_removals: remove what would be held. sources: SOURCES unless given. Each chunk of 1 000 configs is a transaction of
    its own. Raises NotLeader or SyncUnderWay.
    """
    report = Report()
    with exclusively(locks.Lock.SYNC):
        if term is not None and not ClusterStore.objects.filter(term=term).exists():
            # The dispatcher checks the term again before it writes. This check avoids reading everything for nothing.
            raise NotLeader(f"term {term} is over")
        for source in SOURCES if sources is None else sources:
            # One that is not used any more has configs that it sent, whose removal the guards judge.
            if source.is_used or Source.objects.filter(name=source.name).exists():
                _SourceSync(source, term, report).run(accept_removals)
    return report


def sync_settled(accept_removals: bool = False, patience: float = 10.0) -> Report:
    """Sync repeatedly until no file is being written, for at most `patience` seconds. Raises SyncUnderWay."""
    report, deadline = sync(accept_removals=accept_removals), time.monotonic() + patience
    while report.unsettled and time.monotonic() < deadline:
        time.sleep(files.SETTLED_AFTER)
        report = report.followed_by(sync(accept_removals=accept_removals))
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

    def run(self, accept_removals: bool) -> None:
        self._send()
        still_true = {key: known for key, known in self.source.memory.items() if self.scan.keeps(key)}
        self.source.memory = still_true | self.judged
        held = self._remove(accept_removals)
        self._disown()
        self._write_down(held)

    def _send(self) -> None:
        """Schedule every found config that the store does not have in this version from this replica."""
        sent = [one for found in self.scan.found if (one := self._judge(found)) is not None]
        before = {one.key: self.known[one.key].origins for one in sent if one.key in self.known}
        origins.send(sent, before, source=self.source.name, term=self.term, actor=ACTOR)
        added = [one.key for one in sent if one.key not in self.known]
        changed = [
            one.key for one in sent
            if one.key in self.known and self.known[one.key].fingerprint != one.fingerprint
        ]  # fmt: skip
        self.report.added += added
        self.report.changed += changed
        if added or changed:
            log.info("configs_sent", source=self.source.name, added=len(added), changed=len(changed))

    def _judge(self, found: Found) -> Admitted | None:
        """Judge a found config, and read it only when its version is new to this process or the store. Return what to send."""
        judgement, sent = self.source.memory.get(found.key), None
        if judgement is None or judgement.version != found.version or not self._is_in_store(found.key, judgement):
            try:
                judgement, sent = _read(found, self.source.name)
            except Unsettled:
                self.scan.unsettled.add(found.key)
                self.scan.kept.add(found.key)
                return None
        self.judged[found.key] = judgement
        return None if self._is_in_store(found.key, judgement) else sent

    def _is_in_store(self, key: str, judgement: Judgement) -> bool:
        """Whether the store has what this key sends, from this replica. True for a key that sends nothing."""
        if not judgement.fingerprint:
            return True
        known = self.known.get(key)
        if known is None or known.written_hash != judgement.written_hash:
            return False
        return known.fingerprint == judgement.fingerprint and known.replicas == {conf.REPLICA}

    def _remove(self, accept: bool) -> list[str]:
        """Unschedule what is gone, unless that looks like an accident. Return the keys whose removal is held."""
        gone = self._gone()
        lost = gone - self._renamed(gone) if len(gone) >= HELD_FROM or self.row.held_removals else gone
        # A held removal stays held, even when new files make it less than half, until the files return or it is accepted.
        held = lost & set(self.row.held_removals)
        if look_accidental(len(lost), len(self.known)):
            held = lost
        if accept:
            held = set()
        removed = sorted(gone - held)
        gone_origins = [(self.source.name, origin) for key in removed for origin in self.known[key].origins]
        dispatcher.unschedule(gone_origins, term=self.term, actor=ACTOR)
        self.report.removed += removed
        if removed:
            log.info("configs_removed", source=self.source.name, removed=len(removed))
        return sorted(held)

    def _disown(self) -> None:
        """Let configs that a broken key shares with other origins name only those. The config itself is still sent."""
        broken = [key for key, one in self.judged.items() if isinstance(one.outcome, Problem) and not one.fingerprint]
        sent = {origin for key in broken if key in self.known for origin in self.known[key].origins}
        shared = sent - Origin.objects.sole_senders(self.source.name, sent) if sent else set()
        dispatcher.name_other_origins([(self.source.name, origin) for origin in shared], term=self.term)

    def _renamed(self, gone: set[str]) -> set[str]:
        """Those of the gone keys whose configs other origins send, too: removing them loses no config."""
        keys = {origin: key for key in gone for origin in self.known[key].origins}
        return gone - {keys[origin] for origin in Origin.objects.sole_senders(self.source.name, keys)}

    def _gone(self) -> set[str]:
        """Known keys that send nothing any more, except keys that another replica sent and may still have.

        Empty while a new file is being written, since that may be a renamed one.
        """
        if self.scan.arriving - self.known.keys():
            return set()
        there = {key for key, judgement in self.judged.items() if judgement.keeps_sending()}
        others = SourceScan.objects.of_others_lately(self.row)
        absent = {key for key, known in self.known.items() if key not in there and not known.replicas & others}
        return {key for key in absent if not self.scan.keeps(key)}

    def _write_down(self, held: list[str]) -> None:
        """Write the findings to the report and the source's row."""
        outcomes = [judgement.outcome for judgement in self.judged.values()]
        missing = self.scan.missing if self.known else []
        problems = [*self.scan.problems, *missing, *(one for one in outcomes if isinstance(one, Problem))]
        problems += [Problem(**one) for one in self.row.errors if one["where"] in self.scan.unsettled]
        passed_over = [one for one in outcomes if isinstance(one, PassedOver)]
        passed_over += [PassedOver(**one) for one in self.row.passed_over if one["where"] in self.scan.unsettled]
        warnings = self._warnings()
        self._log(problems, warnings, held)
        self.row.note_scan(
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
        self.report.other_checks += sum(judgement.is_other_check() for judgement in self.judged.values())
        self.report.unsettled |= bool(self.scan.unsettled)

    def _warnings(self) -> list[Notice]:
        """The present warnings, and the previous ones of files that are being written."""
        before = [Notice(**one) for one in self.row.warnings if one["where"] in self.scan.unsettled]
        return lint.notices((key, one.check, one.linted) for key, one in self.judged.items()) + before

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
        return replace(judgement, outcome=_refused(found.key, config, refusal)), None
    except UnpatchableConfig as error:
        return replace(judgement, outcome=Problem(found.key, None, scrub(str(error)))), None
    left_out = Problem(found.key, None, scrub(admitted.problem)) if admitted.problem else None
    judgement = replace(judgement, fingerprint=admitted.fingerprint, written_hash=admitted.written_hash)
    return replace(judgement, outcome=left_out, linted=linted.besides(admitted.warning)), admitted


def _refused(key: str, config: IntegrationConfig, refusal: dispatcher.Refused) -> PassedOver | None:
    """Why a config is not dispatched; None for checks of the node agents themselves, which share the folders."""
    if config.is_template:
        return PassedOver(key, "a template: it has ad_identifiers and no node_name")
    return PassedOver(key, str(refusal)) if config.cluster_check or config.is_endpoint else None
