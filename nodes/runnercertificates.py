"""The certificates of runners, pinned on first use: one that later shows another gets no call, until that is accepted.

Agents sign their certificates themselves, and may make a new one at each start. So a fresh start ends what is kept, and nothing
is kept of a node that has fetched no configs: one that starts anew then can't be told from one that goes on.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from acts.models import Act
from acts.recording import record
from clusteragent.lib import conf
from clusteragent.lib.words import listed
from nodes.models import Node, NodeEvent, Runner

# Events by which a node may have another certificate.
_STARTS = (NodeEvent.Kind.REGISTERED, NodeEvent.Kind.BACK, NodeEvent.Kind.RESTARTED)
# Hexadecimal digits of a fingerprint in a sentence. A word of 32 would look like a key, and be hidden.
_SHOWN = 16


class Compared(NamedTuple):
    """What a runner showed, and the certificate that it was compared with, if one was kept. Both are fingerprints."""

    kept: str
    shown: str


class NoOffer(LookupError):
    """There is no other certificate to accept."""


class Offer(NamedTuple):
    """A node whose runner shows another certificate than the one that is kept since then. Both are fingerprints."""

    node: str
    kept: str
    since: datetime
    other: str


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate in DER, in hexadecimal digits."""
    return sha256(certificate).hexdigest()


def written(fingerprint: str) -> str:
    """A fingerprint as people compare it: `SHA256:` and its digits."""
    return f"SHA256:{fingerprint}"


def brief(fingerprint: str) -> str:
    """The beginning of a fingerprint, for sentences."""
    return f"SHA256:{fingerprint[:_SHOWN]}…"


@transaction.atomic
def note(found: Mapping[int, Compared], since: datetime) -> dict[str, str]:
    """Keep the first certificates that runners show, and note which show another. Returns {node: what it shows} of new ones.

    found: {node's id: what it showed}. since: when it was read what they were compared with, by the database's clock.
    """
    if not found:
        return {}
    columns = ("pk", "node__name", "certificate", "other_certificate", "node__heartbeat__acknowledged")
    # Without a lock: in nearly all rounds nothing changes.
    rows: list[tuple[int, str, str, str, int | None]] = list(Runner.objects.filter(pk__in=found).values_list(*columns))
    # Started anew, and whoever noted that was cut off before it forgot the certificate.
    stale = {pk: name for pk, name, kept, _, acknowledged in rows if kept and not acknowledged}
    forget(stale.values())
    _keep({pk: found[pk].shown for pk, _, kept, *_ in rows if not kept and not found[pk].kept}, since)
    differing = {pk for pk, _, kept, other, _ in rows if kept and other != _other(kept, found[pk])} - stale.keys()
    return _note_others({pk: found[pk] for pk in differing}) if differing else {}


def _other(kept: str, compared: Compared) -> str:
    return compared.shown if compared.shown != kept else ""


def _keep(first: Mapping[int, str], since: datetime) -> None:
    """Keep the certificates of runners without one, {node's id: fingerprint}, but for nodes that may have started since then."""
    if not first:
        return
    started = NodeEvent.objects.filter(node_name=OuterRef("node__name"), kind__in=_STARTS, time__gte=since)
    going_on = Runner.objects.filter(pk__in=first, certificate="", node__heartbeat__acknowledged__gt=0)
    rows = _locked(going_on.exclude(Exists(started)))
    Runner.objects.set_certificates({row.pk: (first[row.pk], "") for row in rows})


def _note_others(found: Mapping[int, Compared]) -> dict[str, str]:
    """Store what runners show instead of what is kept, unless that is another by now. Returns as `note` does."""
    rows = [row for row in _locked(Runner.objects.filter(pk__in=found)) if row.certificate == found[row.pk].kept]
    names = dict(Runner.objects.filter(pk__in=found, other_certificate="").values_list("pk", "node__name"))
    shown = {row.pk: (row.certificate, _other(row.certificate, found[row.pk])) for row in rows}
    Runner.objects.set_certificates(shown)
    causes = {
        names[pk]: f"shows {brief(other)} instead of {brief(kept)}"
        for pk, (kept, other) in shown.items()
        if other and pk in names
    }
    NodeEvent.objects.note_each(NodeEvent.Kind.CERTIFICATE, causes)
    return causes


@transaction.atomic
def forget(names: Collection[str]) -> None:
    """Keep no certificate of nodes that start anew."""
    if not names:
        return
    if ids := [row.pk for row in _locked(Runner.objects.exclude(certificate="").filter(node__name__in=names))]:
        Runner.objects.filter(pk__in=ids).update(certificate="", certificate_since=None, other_certificate="")


def offers(names: Collection[str]) -> list[Offer]:
    """The nodes of these names whose runners show another certificate than the one that is kept."""
    rows = Runner.objects.showing_another().filter(node__name__in=names).order_by("node__name")
    found: list[Any] = list(rows.values_list("node__name", "certificate", "certificate_since", "other_certificate"))
    return [Offer(*row) for row in found]


def offers_of(names: Collection[str]) -> list[Offer]:
    """As `offers`, for people who name these nodes. Raises UnknownNode, and NoOffer for one without."""
    found = offers(names)
    for name in sorted(set(names) - {one.node for one in found}):
        if not Node.objects.known().filter(name=name).exists():
            raise Node.objects.unknown(name)
        pinned = "" if conf.RUNNER_CERTIFICATES_PINNED else ": CLUSTERAGENT_RUNNER_CERTIFICATES is not `pinned`"
        raise NoOffer(f"{name} shows no other certificate than the one that is kept{pinned}")
    return found


@transaction.atomic
def accept(accepted: Collection[Offer]) -> list[str]:
    """Keep what these runners show instead of what was kept. Returns their nodes. Raises NoOffer if one shows it no more."""
    wanted = {one.node: one.other for one in accepted}
    rows = list(_locked(Runner.objects.showing_another().filter(node__name__in=wanted).select_related("node")))
    shown = {row.node.name: row.other_certificate for row in rows}
    names = sorted(wanted)
    for name in names:
        if shown.get(name) != wanted[name]:
            raise NoOffer(f"{name} does not show that certificate any more")
    Runner.objects.set_certificates({row.pk: (row.other_certificate, "") for row in rows})
    before = {row.node.name: written(row.certificate) for row in rows}
    after = {name: written(one) for name, one in wanted.items()}
    record(Act.Verb.CHANGE, f"certificate of {listed(names)}", before=before, after=after, nodes=names)
    return names


def _locked(rows: QuerySet[Any]) -> QuerySet[Any]:
    """These runners, in the order of the key, as rounds of stats lock them."""
    return rows.order_by("pk").select_for_update(no_key=True, of=("self",))
