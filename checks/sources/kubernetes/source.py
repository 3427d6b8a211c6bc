"""The source `kubernetes`: what is annotated at Services and declared as ClusterChecks, as the watches tell it.

A complete list is a scan of the whole source, under the guards of each scan. A watched change is a scan of the subjects that it
is about: what they do not send any more is known to be gone.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import structlog

from checks.models.configs import KUBERNETES
from checks.sources.kubernetes import clusterchecks, configs, instrumentations, selectors
from checks.sources.kubernetes.annotations import OLD_PREFIX, PREFIX
from checks.sources.kubernetes.clusterchecks import ClusterCheck
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.mirror import Mirror
from checks.sources.kubernetes.options import for_files
from checks.sources.kubernetes.secrets import Handle
from checks.sources.kubernetes.subjects import CLUSTERCHECK, INSTRUMENTATION, SERVICE, Subject, beginnings, in_turn
from checks.sources.kubernetes.templates import Templates
from checks.sources.kubernetes.watching import Listed, Told
from checks.sources.source import ConfigSource, Found, Ordered, Part, Problem, Read, Scan
from checks.wire.lint import Linted, Notice
from checks.wire.patching import IntegrationConfig

# Changed subjects of one scan: their keys are asked for in one statement. Seconds after which one looks at no more of them.
MOST_AT_ONCE, LONGEST = 200, 0.5
# A subject that took longer than LONG seconds is not looked at again for REST times as long: anybody may make one that
# changes all the time.
LONG, REST = 0.1, 4
# The place of what is wrong with the source as a whole.
API = "API"
_PROMETHEUS = "prometheus.io/"


class _Look(NamedTuple):
    """What a subject made when it was looked at last: keys of configs, and a hash of all that is told of it."""

    keys: frozenset[str]
    told: int


class _Wrong(NamedTuple):
    """What can't be done with the API."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


log = structlog.get_logger()

_NOTHING = _Look(frozenset(), 0)
_NOTHING_WRONG = _Wrong()


class KubernetesSource(ConfigSource):
    """The Services and ClusterChecks of a Kubernetes cluster. One process reads them, the leader's.

    templates: files that select Services. beat: called now and then during long scans.
    """

    name = KUBERNETES
    is_shared = True

    def __init__(
        self, options: Options, templates: Templates | None = None, beat: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.mirror = Mirror()
        self.templates = templates or Templates()
        self._of_files = for_files(options)
        self._options, self._beat = options, beat
        # Whether all that is watched was listed, or can't be.
        self._is_complete = False
        self._whole = False
        self._changed: set[Subject] = set()
        # Of subjects that make something, or of which something is told.
        self._looks: dict[Subject, _Look] = {}
        self._new_looks: dict[Subject, _Look] = {}
        # The ClusterChecks, and whether each makes a config.
        self._usable: dict[str, tuple[ClusterCheck, bool]] = {}
        # The Secrets that each subject names.
        self._handles: dict[Subject, frozenset[Handle]] = {}
        # What is wrong with the API, and what was told of it last; and beginnings of keys of which therefore nothing is known.
        self._wrong, self._told = _NOTHING_WRONG, _NOTHING_WRONG
        self._unknown: frozenset[str] = frozenset()
        self._scan = Scan()
        # Subjects that took long, and until when they are left alone; and the namespace that was looked at last.
        self._rests: dict[Subject, float] = {}
        self._last = ""

    def take(self, told: Told) -> None:
        """Take over what a watch told. The next scan looks at it."""
        changed = self.mirror.take(told)
        if isinstance(told, Listed):
            self.begin_again()
        self._changed |= {one for one in changed if one in self._looks or self._may_matter(one)}

    @property
    def handles(self) -> frozenset[Handle]:
        """The Secrets that configs name."""
        return frozenset().union(*self._handles.values())

    def take_secrets(self, changed: Collection[Handle]) -> None:
        """Note that other things are known of these Secrets. The next scan looks at the subjects that name them.

        One that names Secrets that were not read yet is looked at when they were: it may name many.
        """
        known = self._options.secrets.known if self._options.secrets else {}
        self._changed |= {
            one
            for one, handles in self._handles.items()
            if not handles.isdisjoint(changed) and all(map(known.__contains__, handles))
        }

    def begin_again(self) -> None:
        """Let the next scan be of the whole source."""
        self._whole = True

    def note(
        self, *, complete: bool, refusals: Iterable[str], unknown: Iterable[str], warnings: Iterable[str] = ()
    ) -> None:
        """Note how far the cluster is known.

        complete: all that is watched was listed, or can't be. refusals: why resources can't be read. unknown: the beginnings of
        keys of which nothing is known for that. warnings: what else can't be done.
        """
        self._is_complete, self._unknown = complete, frozenset(unknown)
        self._wrong = _Wrong(tuple(dict.fromkeys(refusals)), tuple(warnings))

    def look(self) -> bool:
        """Work out what the next scan finds: everything, or at most MOST_AT_ONCE changed subjects. Return whether it is new."""
        self._new_looks = {}
        whole = self._is_complete and self._whole
        # Whether it can be read is noted by who watches it.
        scan = Scan(kept_under={*self._unknown, *self.templates.kept}, readable=False)
        if not self._unknown.isdisjoint(configs.OF_ENDPOINTS):
            scan.kept_under |= {selectors.of_kind(file, "endpoints") for file in self.templates.selectors}
        subjects = sorted(self.mirror.subjects()) if whole else self._due() if self._is_complete else ()
        scan.problems += [Problem(API, None, f"{why}; what was sent stays") for why in self._wrong.refusals]
        scan.warnings += [Notice(API, None, warning) for warning in self._wrong.warnings]
        if whole:
            self._handles = {}
            scan.problems += self.templates.problems.values()
            scan.warnings += self.templates.warnings
        began = time.monotonic()
        for subject in subjects:
            self._look(subject, scan)
            if not whole and (len(self._new_looks) == MOST_AT_ONCE or time.monotonic() - began > LONGEST):
                break
        if not whole:
            scan.part = self._part()
        self._scan = scan
        return whole or bool(self._new_looks) or self._wrong != self._told

    def scan(self) -> Scan:
        """Return what `look` found."""
        return self._scan

    def settle(self) -> None:
        """Note that the last scan was synced. Without this the next one looks at the same again."""
        self._told = self._wrong
        self._scan = Scan()
        if not self._is_complete:
            return
        if self._whole:
            self._looks = {}
        for subject, look in self._new_looks.items():
            if look == _NOTHING:
                self._looks.pop(subject, None)
            else:
                self._looks[subject] = look
        self._changed = set() if self._whole else self._changed.difference(self._new_looks)
        self._new_looks, self._whole = {}, False

    def ordered(self) -> dict[str, Ordered | None]:
        """Return what the keys of the ClusterChecks order; None for one that can't be used as it is now."""
        there = {clusterchecks.key(one.namespace, one.name): one for one in self.mirror.clusterchecks()}
        self._usable = {key: (one, self._is_usable(key, one)) for key, one in there.items()}
        return {key: one.ordered if is_usable else None for key, (one, is_usable) in self._usable.items()}

    def _is_usable(self, key: str, declared: ClusterCheck) -> bool:
        """Whether a ClusterCheck makes a config, as far as is known before the sync, and as the last sync found."""
        judgement = self.memory.get(key)
        before, was_usable = self._usable.get(key, (None, False))
        if before is declared and Subject(CLUSTERCHECK, declared.namespace, declared.name) not in self._changed:
            return was_usable and not (
                judgement and isinstance(judgement.outcome, Problem) and not judgement.fingerprint
            )
        return not clusterchecks.make(declared, self._options).kept

    def _due(self) -> list[Subject]:
        """The changed subjects that may be looked at now, of each namespace in turn; the one looked at last comes last."""
        now = time.monotonic()
        self._rests = {one: until for one, until in self._rests.items() if now < until}
        due = self._changed - self._rests.keys()
        by_namespace = sorted(due, key=lambda one: (one.namespace <= self._last, one.namespace, one))
        return in_turn(by_namespace, lambda one: one.namespace)

    def _look(self, subject: Subject, scan: Scan) -> None:
        """Add what a subject makes to the scan, if it is whole or if that is other than before."""
        self._beat()
        began = time.monotonic()
        made = self._made_by(subject)
        if (took := time.monotonic() - began) > LONG:
            self._rests[subject] = time.monotonic() + REST * took
        self._last = subject.namespace
        self._handles.pop(subject, None)
        if made.handles:
            self._handles[subject] = frozenset(made.handles)
        versions = {key: hash(config) for key, config in made.configs.items()}
        look = _look_of(made, versions)
        if not self._whole and look == self._looks.get(subject, _NOTHING):
            self._changed.discard(subject)
            return
        self._new_looks[subject] = look
        for key, config in made.configs.items():
            scan.found.append(Found(key, versions[key], partial(self._read, config), subject.place))
        scan.problems += made.problems
        scan.warnings += made.warnings
        scan.passed_over += made.passed_over
        # What ends in a slash is the beginning of keys.
        scan.kept |= made.kept
        scan.kept_under |= {key for key in made.kept if key.endswith("/")}

    def _made_by(self, subject: Subject) -> Made:
        try:
            return self._make(subject)
        except Exception as error:
            # Whatever one object is, the others are dispatched.
            log.exception("kubernetes_object_failed", object=subject.place)
            made = Made(kept=set(self._beginnings(subject)))
            made.fail(subject.place, f"{type(error).__name__}, an error of ours; what was sent stays")
            return made

    def _make(self, subject: Subject) -> Made:
        _, *names = subject
        if subject.kind == CLUSTERCHECK:
            declared = self.mirror.clustercheck(*names)
            return clusterchecks.make(declared, self._options) if declared else Made()
        if subject.kind == INSTRUMENTATION:
            return self._make_instrumented(subject)
        service, slices = self.mirror.service(*names), self.mirror.slices(*names)
        if not service:
            return Made()
        made = configs.make(service, slices, self._options)
        for selector in self.templates.selectors.values():
            made.add(selectors.make(selector, service, slices, self._of_files))
        return made

    def _make_instrumented(self, subject: Subject) -> Made:
        declared = self.mirror.instrumentation(subject.namespace, subject.name)
        if not declared:
            return Made()
        target = declared.namespace, declared.service
        return instrumentations.make(declared, self.mirror.service(*target), self.mirror.slices(*target), self._options)

    def _beginnings(self, subject: Subject) -> list[str]:
        files = self.templates.selectors if subject.kind == SERVICE else ()
        of_files = (selectors.beginnings(file, subject.namespace, subject.name) for file in files)
        return [*beginnings(subject), *chain.from_iterable(of_files)]

    def _part(self) -> Part:
        subjects = self._new_looks
        before = [self._looks[one].keys for one in subjects if one in self._looks]
        return Part(
            beginnings=frozenset(each for one in subjects for each in self._beginnings(one)),
            keys=frozenset().union(*before),
            places=frozenset({API, *(one.place for one in subjects)}),
        )

    def _read(self, config: IntegrationConfig) -> Read:
        self._beat()
        return Read(config, Linted(check=config.name))

    def _may_matter(self, subject: Subject) -> bool:
        # Options name which annotations let a Service be scraped.
        if self.templates.selectors or self._options.scraping or subject.kind != SERVICE:
            return True
        service = self.mirror.service(subject.namespace, subject.name)
        return service is not None and any(
            each.startswith((PREFIX, OLD_PREFIX, _PROMETHEUS)) for each in service.annotations
        )


def _look_of(made: Made, versions: Mapping[str, int]) -> _Look:
    findings = (*made.problems, *made.warnings, *made.passed_over)
    if not (versions or findings or made.kept):
        return _NOTHING
    return _Look(frozenset(versions), hash((frozenset(versions.items()), findings, frozenset(made.kept))))
