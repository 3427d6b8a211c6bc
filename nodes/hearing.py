"""Whether silence counts, who is silent and who expires: deafness, the brake and the warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import structlog
from django.db.models import Case, Count, Exists, Min, OuterRef, Q, Value, When
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Heartbeat, Memory, Node, NodeEvent
from nodes.models.nodes import NodeQuerySet

log = structlog.get_logger()

# For at most so many timeouts in a row, late passes and ends of brakes give every node a full timeout again.
LATE_COUNTS = 2

_JUDGED = ("hearing_since", "braked_since", "late_since")


class Silence(NamedTuple):
    """How many nodes are known, how many of them silent, and how many appeared since the first of those fell silent.

    goodbyes: the same for nodes that said goodbye within a timeout: all nodes, how many said it, newcomers since the first.
    """

    known: int
    silent: int
    newcomers: int
    goodbyes: tuple[int, int, int] = (0, 0, 0)

    def alarming(self) -> bool:
        """Whether too many nodes are silent, or said goodbye, at once to believe it."""
        return too_many(self.known, self.silent, self.newcomers) or too_many(*self.goodbyes)


def too_many(known: int, missing: int, newcomers: int = 0) -> bool:
    """Whether more nodes are missing than the brake's fraction and number allow. Newcomers replace missing nodes one for one."""
    if not (conf.BRAKE_FRACTION and conf.BRAKE_NODES):
        return False
    missing -= newcomers
    return missing >= conf.BRAKE_NODES and missing > known * conf.BRAKE_FRACTION


def listen() -> Silence:
    """Decide whether silence counts (deaf, braked or hearing), and store that. Returns the counts that it was decided by."""
    Heartbeat.objects.pull_back()
    hearing = Hearing.objects.annotate(now=Now()).get()
    before = {name: getattr(hearing, name) for name in _JUDGED}
    is_forgetful = not Memory.objects.exists()
    silence = count_silence()
    _judge(hearing, hearing.now, silence, is_forgetful)
    after = {name: getattr(hearing, name) for name in _JUDGED}
    # Compare and swap: a pass that was stopped between the two must not undo what a later one decided.
    if after != before and Hearing.objects.filter(**before).update(**after):
        _log_change(before, after)
        if is_forgetful:
            Memory.objects.get_or_create(pk=1)
    return silence


def _log_change(before: Mapping[str, datetime | None], after: Mapping[str, datetime | None]) -> None:
    """Log what begins or ends. While nobody is heard, each pass begins to hear anew, which is not logged again."""
    braked, hearing_since = after["braked_since"], after["hearing_since"]
    if not braked:
        if before["braked_since"]:
            log.warning("brake_off", hearing_since=hearing_since)
    elif braked == hearing_since:
        was_deaf = before["braked_since"] and before["braked_since"] == before["hearing_since"]
        if not was_deaf and Node.objects.none_reported():
            given = Node.objects.known().aggregate(nodes=Count("pk", distinct=True), configs=Count("assignments"))
            log.info("no_adopted_node_reported_yet", **given, advice="switch the address that node agents call")
        elif not was_deaf:
            log.warning("deaf", hearing_since=hearing_since)
    elif not before["braked_since"]:
        log.warning("brake_on", braked_since=braked)


def _judge(hearing: Hearing, now: datetime, silence: Silence, is_forgetful: bool) -> None:
    """Set on the row whether silence means death (hearing), our own deafness, or too many deaths to believe (braked).

    Deaf: every node fell silent at once, or no pass ran for a while, or the database may have forgotten whom it heard:
    every node gets a full timeout from now. Not for ever: when late passes, or brakes that end, go on for LATE_COUNTS
    timeouts while most nodes are heard, it is not the reports that are late.
    Braked: more fell silent, or said goodbye, than is likely (a broken load balancer, a cut network, somebody who speaks
    in their names); they expire only if that lasts.
    """
    if hearing.hearing_since:
        hearing.hearing_since = min(hearing.hearing_since, now)  # the database's clock was set back
    asleep = _note_lateness(hearing, now) and (
        now - (hearing.late_since or now) <= conf.NODE_EXPIRATION_TIMEOUT * LATE_COUNTS
        or 2 * silence.silent > silence.known
    )
    if asleep or is_forgetful or (silence.known >= 2 and silence.silent == silence.known):
        hearing.hearing_since = hearing.braked_since = now
        if 2 * silence.silent > silence.known:
            # It was no late pass alone: nobody was heard.
            hearing.late_since = now
    elif silence.alarming():
        hearing.braked_since = hearing.braked_since or now
    elif hearing.braked_since:
        hearing.braked_since = None
        # Nodes that fall silent and come back together, again and again, keep no other one alive for ever.
        hearing.late_since = hearing.late_since or now
        if now - hearing.late_since <= conf.NODE_EXPIRATION_TIMEOUT * LATE_COUNTS:
            hearing.hearing_since = now


def _note_lateness(hearing: Hearing, now: datetime) -> bool:
    """Return whether the last pass ended longer ago than half the timeout. Sets or clears `late_since` with it."""
    late = hearing.last_pass is not None and now - hearing.last_pass > conf.NODE_EXPIRATION_TIMEOUT / 2
    if hearing.late_since:
        hearing.late_since = min(hearing.late_since, now)
    if late:
        hearing.late_since = hearing.late_since or now
    elif not hearing.braked_since and (
        hearing.hearing_since is None or now - hearing.hearing_since > conf.NODE_EXPIRATION_TIMEOUT
    ):
        hearing.late_since = None
    return late


def warmed_up(*, sources_read: bool) -> bool:
    """Whether work may be given out. A new database waits for a while after its first report and first reading of sources."""
    hearing = Hearing.objects.annotate(now=Now()).get()
    if hearing.warmup and not hearing.warm_until and sources_read and Node.objects.exists():
        hearing.warm_until = hearing.now + conf.WARMUP_DURATION
        hearing.save(update_fields=["warm_until"])
    return not hearing.warmup or (hearing.warm_until is not None and hearing.warm_until <= hearing.now)


def count_silence() -> Silence:
    """Count who is silent, by the database's clock; those that said goodbye are counted for themselves."""
    silent = Q(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    counts = Node.objects.expected().aggregate(
        known=Count("pk"), silent=Count("pk", filter=silent), since=Min("heartbeat__seen_at", filter=silent)
    )
    fresh = Node.objects.expected().exclude(silent)

    def newcomers(since: datetime | None) -> int:
        return fresh.filter(first_seen__gt=since).count() if since else 0

    gone, first = Node.objects.goodbyes(conf.NODE_EXPIRATION_TIMEOUT)
    goodbyes = (counts["known"] + gone, gone, newcomers(first)) if gone else (0, 0, 0)
    return Silence(counts["known"], counts["silent"], newcomers(counts["since"]), goodbyes)


def note_silent() -> list[str]:
    """Note each node that fell silent since its last heartbeat and was not noted yet. Returns their names.

    Nodes of which none ever reported are expected to be silent until they are told our address.
    """
    if Node.objects.none_reported():
        return []
    silent = NodeEvent.Kind.SILENT
    noted = NodeEvent.objects.filter(node_name=OuterRef("name"), kind=silent, time__gte=OuterRef("heartbeat__seen_at"))
    names = list(Node.objects.expected().silent().exclude(Exists(noted)).values_list("name", flat=True))
    NodeEvent.objects.note(names, silent)
    return names


def too_many_leave() -> bool:
    """Whether so many nodes say that they leave that they are believed only when they are silent, too."""
    leaving = Node.objects.known().filter(leaving=True).count()
    return bool(leaving) and too_many(Node.objects.known().count(), leaving)


def lose_expired(nodes: NodeQuerySet, *, force: bool = False) -> dict[int, str]:
    """Mark as lost those of these nodes that expired: {id: name}. For the dispatcher only, which takes their configs away."""
    # Nodes before heartbeats, in the order of the key, as registration locks them.
    locked = nodes.expired(force=force).order_by("pk").select_for_update(no_key=True, of=("self",))
    gone = Heartbeat.objects.delete_silent([node.pk for node in locked])
    podless = [id_ for id_, death in gone.items() if death.cause == NodeEvent.POD_GONE]
    refusing = [id_ for id_, death in gone.items() if death.cause == NodeEvent.REFUSES]
    lost = Node.objects.filter(pk__in=gone)
    lost.update(lost_at=Now())
    Node.objects.bump_versions(gone)
    said = Case(
        When(leaving=True, pk__in=podless, then=Value(NodeEvent.ANNOUNCED_GONE)),
        When(leaving=True, then=Value(NodeEvent.ANNOUNCED)),
        When(pk__in=podless, then=Value(NodeEvent.POD_GONE)),
        When(pk__in=refusing, then=Value(NodeEvent.REFUSES)),
        default=Value(""),
    )
    names = dict(lost.values_list("pk", "name"))
    causes = dict(lost.annotate(said=said).values_list("name", "said"))
    NodeEvent.objects.note_each(NodeEvent.Kind.EXPIRED, causes, {name: gone[id_].last() for id_, name in names.items()})
    return names
