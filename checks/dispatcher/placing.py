"""The verbs of configs that come, change and go, and of nodes that die."""

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q

from checks import changes
from checks.balancing import ceiling
from checks.changes import Entry, Reckoning, Sent
from checks.dispatcher.turns import Pools, Turn, entries_of, in_chunks, sketches
from checks.models import Assignment, ClusterStore, Config, Move, Origin, Source
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Node

# How long what a dead node left may wait for room, rather than be piled on the survivors.
NO_PILE_UP = timedelta(seconds=60)

log = structlog.get_logger()


def schedule(sent: Iterable[Sent], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Take in what origins send: what is new is placed, what changed stays where it is, the same again changes nothing."""
    latest = {(one.source, one.key): one for one in sent}
    pools = Pools()
    return in_chunks(list(latest.values()), lambda chunk: _schedule(chunk, pools, term, actor))


def unschedule(origins: Collection[tuple[str, str]], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Forget these (source, key) pairs; a config that no origin sends any more is gone."""
    return in_chunks(sorted(set(origins)), lambda chunk: _unschedule(chunk, term, actor))


def expire_nodes(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Take every config away from the nodes that expired. force skips the guards against our own deafness."""
    if not Node.objects.expired(force=force).exists():
        return []
    with transaction.atomic():
        store = ClusterStore.objects.lock(term)
        gone = Node.objects.expire(force=force)
        moves = Assignment.objects.take_away(gone, reason=Move.Reason.EXPIRED, term=store.term, actor=actor)
        ClusterStore.objects.update(revision=F("revision") + 1)
    left = set(Node.objects.filter(pk__in=gone, leaving=True).values_list("name", flat=True))
    for name in gone.values():
        say = log.info if name in left else log.warning
        say("node_expired", node=name, term=store.term)
    return moves


def redispatch(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Place what dangles, each config on its former node if that is back. force skips the warm-up and the ceiling."""
    warmed_up = Hearing.objects.warmed_up(sources_read=not Source.objects.filter(read_at=None).exists())
    if not (warmed_up or force):
        return []
    dangling = list(Config.objects.dangling().order_by("dangling_since", "pk").values_list("pk", "name", "former_node"))
    moves = _give_out(dangling, math.inf if force else no_pile_up(), term, actor) if dangling else []
    if warmed_up and Hearing.objects.filter(warmup=True).exists():
        moves += _end_warmup(term, actor)
    return moves


@transaction.atomic
def _schedule(chunk: Sequence[Sent], pools: Pools, term: int | None, actor: str) -> list[Move]:
    turn = Turn(term, actor)
    todo = Reckoning(chunk).changes
    if not todo:
        return []
    changes.heed_orders([*todo.changed, *todo.new])
    for entry in todo.changed:
        _keep_owner(turn, entry)
    for entry in todo.removed:
        if entry.owner is not None:
            turn.move(entry, None, Move.Reason.CHANGED)
    ownerless = [
        entry for entry in (*todo.changed, *todo.new)
        if not entry.endpoint and not entry.paused and entry.owner is None and entry.dangling_since is None
    ]  # fmt: skip
    placed = turn.place(ownerless, pools.at(turn.store.revision), Move.Reason.SCHEDULED) if ownerless else []
    changes.write(todo, actor)
    turn.assign(placed, Move.Reason.SCHEDULED)
    return turn.finish()


def _keep_owner(turn: Turn, entry: Entry) -> None:
    """An edited config stays on its node, unless it became an endpoint's: then its node runs it without being its owner."""
    if entry.endpoint:
        Assignment.objects.filter(config_id=entry.id).delete()
        Config.objects.settle([entry.id])
        entry.dangling_since = None
    if entry.owner is not None:
        turn.move(entry, None if entry.endpoint else entry.owner, Move.Reason.CHANGED)


@transaction.atomic
def _unschedule(chunk: Sequence[tuple[str, str]], term: int | None, actor: str) -> list[Move]:
    turn = Turn(term, actor)
    origins = dict(Origin.objects.keyed(chunk).values_list("pk", "config_id"))
    entries = {entry.id: entry for entry in changes.entries(origins.values())}
    for config_id in origins.values():
        entries[config_id].origins -= 1
    gone = [entry for entry in entries.values() if not entry.origins]
    for entry in gone:
        if entry.owner is not None:
            turn.move(entry, None, Move.Reason.UNSCHEDULED)
    Origin.objects.filter(pk__in=origins).delete()
    Config.objects.remove([entry.id for entry in gone])
    changes.rekey_orders([entry.id for entry in entries.values() if entry.origins])
    return turn.finish() if origins else []


def _give_out(rows: Sequence[tuple[int, str, int | None]], most: float, term: int | None, actor: str) -> list[Move]:
    """Place what some node may have. The rest is sorted out before any lock is taken: it may be much, at each pass."""
    back = set(Config.objects.of_nodes_that_came_back().values_list("pk", flat=True))
    pools = Pools(most, cold=True)
    placement = pools.look()
    entries = sketches(rows, with_origins=placement.eligibility.needs_origins())
    hopeful = [entry.id for entry in entries if placement.has_place(entry)]
    moves = in_chunks(hopeful, lambda chunk: _redispatch(chunk, pools, term, actor))
    if back and placement and most == math.inf:
        _forget_former(back, term)
    return moves


@transaction.atomic
def _forget_former(ids: Collection[int], term: int | None) -> None:
    """What could not be given back to who had it waits for that node no longer, or it would not be told what else it has."""
    ClusterStore.objects.lock(term)
    Config.objects.dangling().filter(pk__in=ids).update(former_node=None)


@transaction.atomic
def _redispatch(ids: Sequence[int], pools: Pools, term: int | None, actor: str) -> list[Move]:
    turn = Turn(term, actor)
    placement = pools.at(turn.store.revision)
    if not placement:
        return []
    # Someone may have placed some of them since they were listed.
    dangling = [entry for entry in entries_of(ids) if entry.dangling_since is not None]
    placed = turn.place(dangling, placement, Move.Reason.REDISPATCHED)
    turn.assign(placed, Move.Reason.REDISPATCHED)
    Config.objects.settle([entry.id for entry in placed])
    if term is not None:
        # Each chunk is a sign of life: the pass after a long one must not believe that nobody heard meanwhile.
        Hearing.objects.note_pass()
    if placed:
        return turn.finish()
    pools.keep()
    return []


@transaction.atomic
def _end_warmup(term: int | None, actor: str) -> list[Move]:
    """The transaction that ends the warm-up places what came to dangle meanwhile: nobody sees a part of the map."""
    ClusterStore.objects.lock(term)
    late = list(Config.objects.dangling().values_list("pk", flat=True))
    moves = _redispatch(late, Pools(cold=True), term, actor)
    Hearing.objects.update(warmup=False)
    log.info("warmup_ended")
    return moves


def no_pile_up(leaving: int = 0) -> float:
    """The most that a node may have while much that was lost, or that leaving nodes have, waits for an owner."""
    lost = Config.objects.lost_since(ago(NO_PILE_UP)).count() + leaving
    if not lost:
        return math.inf
    before = Node.objects.filter(Q(heartbeat__isnull=False) | Q(lost_at__gte=ago(NO_PILE_UP))).count()
    return ceiling(Config.objects.dispatchable().count(), lost, before)
