"""Sources that pipelines own. A pipeline gives the whole set of its configs; the difference is sent to the dispatcher.

A caller that names the revision its change is based on is refused when somebody else changed the set meanwhile.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any, NamedTuple

import structlog
from django.db.models.functions import Now

from acts.models import Act
from acts.recording import record
from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.models import Config, Origin, Source, bounds
from checks.sources import origins
from checks.sources.authored import warnings_about
from checks.sources.guards import exclusively, held_removals
from checks.sources.origins import MOST_OF_TEXT, MOST_TEXTS, Admitted, Known
from checks.wire.lint import Notice
from clusteragent.lib import locks
from clusteragent.lib.shortids import keyed

PREFIX = "api:"
# The permissions that a set needs.
WRITES = ("checks.add_config", "checks.change_config", "checks.delete_config")
# So many names of each kind of change are told in an act.
MOST_NAMES = 200
# The most characters of all its texts: a pipeline may send a set every few seconds, and acts are kept for a year.
MOST_OF_ALL = 20_000

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

    @property
    def differing(self) -> set[str]:
        """The names of the configs that are new or changed."""
        return {*self.added, *self.changed}


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
    differing = difference.differing
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
        row, _ = Source.objects.get_or_create(name=source, defaults={"read_at": Now()})
        _change(source, known, difference, sent, actor)
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


def _change(
    source: str, known: Mapping[str, Known], difference: Difference, sent: Sequence[Admitted], actor: str
) -> None:
    """Send and remove what differs, on record: in one transaction with its act, or after the act if that takes several."""
    named = [*difference.added, *difference.changed, *difference.removed]
    left = [key for name in (*difference.changed, *difference.removed) for key in known[name].origins]
    configs, before = _ids(source, left), _before(source, known, difference)

    def send() -> None:
        origins.send(sent, known, source=source, actor=actor)
        origins.remove(source, difference.removed, known, actor=actor)

    def record_act() -> None:
        if named:
            record(Act.Verb.REPLACE, f"set of {source}", before=before, after=_after(difference, sent), configs=configs)

    coming = [each.key for one in sent for each in one.sent]
    if len(left) + len(coming) > dispatcher.CHUNK:
        # What is new has no id yet.
        record_act()
        send()
        return
    with dispatcher.single_transaction():
        send()
        differing = difference.differing
        configs |= _ids(source, [each.key for one in sent if one.key in differing for each in one.sent])
        record_act()


def _before(source: str, known: Mapping[str, Known], difference: Difference) -> dict[str, Any]:
    """What an act tells of the set as it was: its revision, and the texts of the first configs that change or go."""
    names = [*difference.changed, *difference.removed]
    keys = [key for name in names[:MOST_TEXTS] for key in known[name].origins][:MOST_TEXTS]
    rows = Origin.objects.filter(source=source, key__in=keys).select_related("config").order_by("key")
    texts = [(row.key, row.config.display_text) for row in rows]
    return {"revision": _revision(known)} | _texts(texts, len(names))


def _after(difference: Difference, sent: Sequence[Admitted]) -> dict[str, Any]:
    """What an act tells of the set as it is then: names, how many, and the texts of the first that are new or changed."""
    told: dict[str, Any] = {"revision": difference.revision}
    for name in ("added", "changed", "removed"):
        listed = getattr(difference, name)
        told |= {name: listed[:MOST_NAMES], f"{name}_number": len(listed)}
    differing = difference.differing
    coming = [one for one in sent if one.key in differing][:MOST_TEXTS]
    texts = [(each.key, each.patched.text) for one in coming for each in one.sent][:MOST_TEXTS]
    return told | _texts(texts, len(differing))


def _texts(texts: Sequence[tuple[str, str]], number: int) -> dict[str, Any]:
    """The beginnings of these texts, each with its name, as an act has them. number: of how many configs they are the first."""
    shown, room = [], MOST_OF_ALL
    for name, text in texts:
        part = text[: min(MOST_OF_TEXT, room)]
        room -= len(part)
        shown.append({"name": name, "text": part})
    told: dict[str, Any] = {"texts": shown}
    return told | ({"texts_are_of": f"the first {MOST_TEXTS} of {number}"} if number > MOST_TEXTS else {})


def _ids(source: str, keys: Collection[str]) -> set[int]:
    """The ids of the configs that these origins of the source send."""
    return set(Origin.objects.filter(source=source, key__in=keys).values_list("config_id", flat=True))


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
