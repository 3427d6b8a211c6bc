"""Sources that pipelines own. A pipeline gives the whole set of its configs; the difference is sent to the dispatcher.

A caller that names the revision its change is based on is refused when somebody else changed the set meanwhile.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any, NamedTuple

import structlog
from django.db.models.functions import Now

from acts.models import Act
from acts.recording import record
from checks.dispatcher.changes import Sent
from checks.models import Config, Origin, Source, bounds
from checks.sources import origins
from checks.sources.authored import warnings_about
from checks.sources.guards import exclusively, held_removals
from checks.sources.origins import Admitted, Known
from checks.wire.lint import Notice
from clusteragent.lib import locks
from clusteragent.lib.shortids import keyed

PREFIX = "api:"
# The permissions that a set needs.
WRITES = ("checks.add_config", "checks.change_config", "checks.delete_config")
# So many names of each kind of change are told in an act.
MOST_NAMES = 200

log = structlog.get_logger()


class Outdated(Exception):
    """The set has changed since the revision that the caller names."""


class RemovalsHeld(Exception):
    """So many configs would be removed that the caller has to confirm it."""


@dataclass(slots=True)
class Difference:
    """What a desired set changes: the names of configs, and the revision of the set after the change."""

    revision: str
    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]
    removals_held: bool
    warnings: list[Notice]


class Trial(NamedTuple):
    """What a desired set would change. sends: what is new or changed, as it would be dispatched. known: what the store has."""

    difference: Difference
    sends: Sequence[Admitted]
    known: Mapping[str, Known]


def revision_of(source: str) -> str:
    """Return the revision of the set that a source sends now. Equal sets have equal revisions."""
    return _revision(origins.known(source))


def compare(source: str, desired: Sequence[Sent], *, revision: str = "", accept_removals: bool = False) -> Trial:
    """Return what `replace` would change. Raises Outdated when `revision` is given and not the present one, and Outside."""
    require(source)
    known = origins.known(source)
    difference, sent = _compared(source, desired, known, revision, accept_removals)
    differing = {*difference.added, *difference.changed}
    return Trial(difference, [one for one in sent if one.key in differing], known)


def replace(
    source: str, desired: Sequence[Sent], *, actor: str, revision: str = "", accept_removals: bool = False
) -> Difference:
    """Make this the source's set and return what changed. Raises Outdated, RemovalsHeld or Outside, and then changes nothing.

    More than 1 000 configs are changed in several transactions.
    """
    require(source)
    # Under the lock, so that of two callers with the same revision only one succeeds.
    with exclusively(locks.Lock.DESIRED):
        known = origins.known(source)
        try:
            difference, sent = _admissible(source, desired, known, revision, accept_removals)
        except (Outdated, RemovalsHeld) as refusal:
            record(Act.Verb.REFUSE, f"set of {source}", reason=str(refusal))
            raise
        _record(source, known, difference)
        row, _ = Source.objects.get_or_create(name=source, defaults={"read_at": Now()})
        origins.send(sent, known, source=source, actor=actor)
        origins.remove(source, difference.removed, known, actor=actor)
        row.note_scan(read=True, findings={"warnings": difference.warnings})
    numbers = {name: len(getattr(difference, name)) for name in ("added", "changed", "removed")}
    log.info("set_replaced", source=source, actor=actor, **numbers)
    return difference


def require(source: str) -> None:
    """Raise Outside unless the person who acts may write the source's set."""
    for permission in WRITES:
        bounds.require_source(permission, source)


def _admissible(
    source: str, desired: Sequence[Sent], known: Mapping[str, Known], revision: str, accept_removals: bool
) -> tuple[Difference, list[Admitted]]:
    """What `_compared` returns. Raises RemovalsHeld if that removes too much."""
    difference, sent = _compared(source, desired, known, revision, accept_removals)
    if difference.removals_held:
        raise RemovalsHeld(f"This removes {len(difference.removed)} of the {len(known)} configs of {source}.")
    return difference, sent


def _record(source: str, known: Mapping[str, Known], difference: Difference) -> None:
    """Record what a caller is about to change: it may take several transactions."""
    names = {name: getattr(difference, name) for name in ("added", "changed", "removed")}
    if not any(names.values()):
        return
    keys = [key for name in (*difference.changed, *difference.removed) for key in known[name].origins]
    after: dict[str, Any] = {"revision": difference.revision}
    for name, listed in names.items():
        after |= {name: listed[:MOST_NAMES], f"{name}_number": len(listed)}
    configs = Origin.objects.filter(source=source, key__in=keys).values_list("config_id", flat=True)
    record(
        Act.Verb.REPLACE, f"set of {source}", before={"revision": _revision(known)}, after=after, configs=set(configs)
    )


def _compared(
    source: str, desired: Sequence[Sent], known: Mapping[str, Known], revision: str, accept_removals: bool
) -> tuple[Difference, list[Admitted]]:
    """What a desired set changes, and the configs to send for it."""
    if revision and revision != (ours := _revision(known)):
        raise Outdated(f"The set is at revision {ours}, not {revision}: read it again, then send your change.")
    admitted = [origins.admit(source, one.key, one.original, text=one.written, whole=one.patched) for one in desired]
    wanted = {one.key: one for one in admitted}
    found = origins.compare(known, wanted)
    linted = [
        replaced(sent, linted=sent.linted.besides(one.problem, one.warning))
        for sent, one in zip(desired, admitted, strict=True)
    ]
    mine = Origin.objects.filter(source=source)
    difference = Difference(
        revision=_revision(wanted),
        added=found.added,
        changed=found.changed,
        removed=found.gone,
        unchanged=found.same,
        removals_held=not accept_removals and bool(held_removals(source, found.gone, known)),
        warnings=warnings_about(linted, Config.objects.exclude(pk__in=mine.values("config"))),
    )
    return difference, found.to_send(admitted)


def _revision(sends: Mapping[str, Admitted | Known]) -> str:
    # Keyed: fingerprints are hashes of configs with their secrets, and users without access to these see the revision.
    return keyed(json.dumps(sorted((key, one.fingerprint) for key, one in sends.items())))[:16]
