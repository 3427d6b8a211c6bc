"""Sources that pipelines own. A pipeline gives the whole set of its configs; the difference is sent to the dispatcher.

A caller that names the revision its change is based on is refused when somebody else changed the set meanwhile.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced

import structlog
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.models import Config, Origin, Source
from checks.sources import origins
from checks.sources.authored import warnings_about
from checks.sources.guards import exclusively, look_accidental
from checks.sources.origins import Admitted, Known
from checks.wire import lint
from checks.wire.lint import Notice
from clusteragent.lib import locks
from clusteragent.lib.shortids import keyed

PREFIX = "api:"

log = structlog.get_logger()


class Outdated(Exception):
    """The set has changed since the revision that the caller names."""


class RemovalsHeld(Exception):
    """So many configs would be removed that the caller has to confirm it."""


@dataclass(slots=True)
class Difference:
    """What a desired set changes: the names of configs, and the revision of the set after the change."""

    revision: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removals_held: bool = False
    warnings: list[Notice] = field(default_factory=list)


def revision_of(source: str) -> str:
    """Return the revision of the set that a source sends now. Equal sets have equal revisions."""
    return _revision(_fingerprints(origins.known(source)))


def compare(source: str, desired: Sequence[Sent], *, revision: str = "", accept_removals: bool = False) -> Difference:
    """Return what `replace` would change. Raises Outdated when `revision` is given and not the present one."""
    divided = list(map(origins.divided, desired))
    difference = _difference(origins.known(source), divided, revision)
    return _answered(difference, _warnings(source, desired, divided), accept_removals)


def replace(
    source: str, desired: Sequence[Sent], *, actor: str, revision: str = "", accept_removals: bool = False
) -> Difference:
    """Make this the source's set and return what changed. Raises Outdated or RemovalsHeld, and then changes nothing.

    More than 1 000 configs are changed in several transactions.
    """
    # Under the lock, so that of two callers with the same revision only one succeeds.
    with exclusively(locks.Lock.DESIRED):
        known, divided = origins.known(source), list(map(origins.divided, desired))
        difference = _difference(known, divided, revision)
        if difference.removals_held and not accept_removals:
            number = len(difference.removed)
            raise RemovalsHeld(f"This removes {number} of the {len(known)} configs of {source}.")
        difference = _answered(difference, _warnings(source, desired, divided), accept_removals)
        row, _ = Source.objects.get_or_create(name=source, defaults={"read_at": Now()})
        touched = {*difference.added, *difference.changed, *_rewritten(known, divided)}
        before = {key: one.origins for key, one in known.items()}
        origins.send([one for one in divided if one.key in touched], before, source=source, actor=actor)
        dispatcher.unschedule([(source, key) for name in difference.removed for key in before[name]], actor=actor)
        row.note_scan(read=True, warnings=lint.rows(difference.warnings))
    numbers = {name: len(getattr(difference, name)) for name in ("added", "changed", "removed")}
    log.info("set_replaced", source=source, actor=actor, **numbers)
    return difference


def _difference(stored: Mapping[str, Known], desired: Iterable[Admitted], revision: str) -> Difference:
    known = _fingerprints(stored)
    if revision and revision != (ours := _revision(known)):
        raise Outdated(f"The set is at revision {ours}, not {revision}: read it again, then send your change.")
    wanted = {one.key: one.fingerprint for one in desired}
    removed = sorted(known.keys() - wanted.keys())
    both = sorted(known.keys() & wanted.keys())
    return Difference(
        revision=_revision(wanted),
        added=sorted(wanted.keys() - known.keys()),
        changed=[key for key in both if known[key] != wanted[key]],
        removed=removed,
        unchanged=[key for key in both if known[key] == wanted[key]],
        removals_held=look_accidental(len(removed), len(known)),
    )


def _rewritten(stored: Mapping[str, Known], desired: Iterable[Admitted]) -> set[str]:
    """The names of configs with another author's text, whether or not its meaning changed."""
    return {one.key for one in desired if one.key in stored and stored[one.key].written_hash != one.written_hash}


def _fingerprints(known: Mapping[str, Known]) -> dict[str, str]:
    return {key: one.fingerprint for key, one in known.items()}


def _revision(fingerprints: Mapping[str, str]) -> str:
    # Keyed: fingerprints are hashes of configs with their secrets, and users without access to these see the revision.
    return keyed(json.dumps(sorted(fingerprints.items())))[:16]


def _answered(difference: Difference, warnings: list[Notice], accept_removals: bool) -> Difference:
    """The difference for the caller, with warnings. Accepted removals are not held."""
    held = difference.removals_held and not accept_removals
    return replaced(difference, removals_held=held, warnings=warnings)


def _warnings(source: str, desired: Sequence[Sent], divided: Iterable[Admitted]) -> list[Notice]:
    mine = Origin.objects.filter(source=source)
    linted = [
        replaced(sent, linted=sent.linted.besides(one.problem, one.warning))
        for sent, one in zip(desired, divided, strict=True)
    ]
    return warnings_about(linted, Config.objects.exclude(pk__in=mine.values("config")))
