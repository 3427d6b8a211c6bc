"""The verbs of configs that come, change and go, and of nodes that die."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta

import structlog
from django.db.models import Count, Exists, F, OuterRef, Q

from checks.balancing import ceiling
from checks.dispatcher import changes, transaction
from checks.dispatcher.changes import ChangeBuilder, Entry, Sent
from checks.dispatcher.transaction import (
    MapWriter,
    SnapshotCache,
    entries_of,
    in_chunks,
    light_entries,
    own_transaction,
)
from checks.models import Assignment, ClusterStore, Config, Move, Origin, Source
from checks.models.map import remove_configs
from checks.wire.sharding import parent_of
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.hearing import lose_expired, warmed_up
from nodes.models import Hearing, Heartbeat, Node
from nodes.models.nodes import NodeQuerySet

# How long what a dead node left may wait for room, rather than be piled on the survivors.
NO_PILE_UP = timedelta(seconds=60)
# How often the end of the warm-up waits for what came meanwhile, in one pass.
MOST_ROUNDS = 10

log = structlog.get_logger()


def schedule(sent: Iterable[Sent], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Take in what origins send: what is new is placed, what changed stays where it is, the same again changes nothing."""
    latest = {(one.source, one.key): one for one in sent}
    cache = SnapshotCache(lazy=True)
    first = list(latest)[: transaction.CHUNK]
    if Origin.objects.keyed(first).count() < len(first):
        cache.read()
    return in_chunks(list(latest.values()), lambda chunk: _schedule(chunk, cache, term, actor), cache)


def unschedule(origins: Collection[tuple[str, str]], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Forget these (source, key) pairs; a config that no origin sends any more is gone."""
    return in_chunks(sorted(set(origins)), lambda chunk: _unschedule(chunk, term, actor))


def name_other_origins(origins: Collection[tuple[str, str]], *, term: int | None = None) -> None:
    """What stands under these (source, key) pairs can't be read now: configs that others send, too, name those."""
    in_chunks(sorted(set(origins)), lambda chunk: _disown(chunk, term))


def expire_nodes(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Take every config away from the nodes that expired. force skips the guards against our own deafness."""
    moves: list[Move] = []
    while (ids := _next_to_expire(force)) or _not_emptied().exists():
        gone, taken, led = _expire(ids, term, force, actor)
        _say(gone, led)
        moves += taken
        if not (gone or taken):
            break  # their heartbeats came in time after all
    return moves


def redispatch(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Place what dangles, each config on its former node if that is back. force skips the warm-up and the ceiling."""
    dangling = list(Config.objects.dangling().order_by("dangling_since", "pk").values_list("pk", "name", "former_node"))
    is_cold = Hearing.objects.filter(warmup=True).exists()
    if not (dangling or is_cold):
        return []
    is_warm = warmed_up(sources_read=not Source.objects.filter(read_at=None).exists())
    if not (is_warm or force):
        return []
    moves = _give_out(dangling, math.inf if force else pile_up_ceiling(), term, actor) if dangling else []
    if is_warm and is_cold:
        moves += _end_warmup({id_ for id_, *_ in dangling}, term, actor)
    return moves


def _next_to_expire(force: bool) -> list[int]:
    """Of the nodes that expired, the first that together have no more configs than a step takes; one at least."""
    if not Heartbeat.objects.filter(seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT)).exists():
        return []  # as mostly: what else must be so takes longer to ask
    expired = Node.objects.expired(force=force).order_by("pk").annotate(held=Count("assignments"))
    ids: list[int] = []
    held = 0
    for id_, number in expired.values_list("pk", "held")[: transaction.CHUNK]:
        held += number
        if ids and held > transaction.CHUNK:
            break
        ids.append(id_)
    return ids


@own_transaction
def _expire(ids: Collection[int], term: int | None, force: bool, actor: str) -> tuple[dict[int, str], list[Move], int]:
    """Lose these nodes, and take away what they have. Of one that has very much the rest is taken away in further steps."""
    store = ClusterStore.objects.lock(term)
    gone = lose_expired(Node.objects.filter(pk__in=ids), force=force)
    # Locked: one that is back meanwhile keeps what it still has.
    emptied = _not_emptied().order_by("pk").select_for_update(no_key=True, of=("self",))
    taken = Assignment.objects.take_away(
        [node.pk for node in emptied], most=transaction.CHUNK, reason=Move.Reason.EXPIRED, term=store.term, actor=actor
    )
    ClusterStore.objects.update(revision=F("revision") + 1)
    return gone, taken, store.term


def _not_emptied() -> NodeQuerySet:
    """Lost nodes from which not all was taken away yet."""
    return Node.objects.filter(Exists(Assignment.objects.filter(node=OuterRef("pk"))), lost_at__isnull=False)


def _say(gone: Mapping[int, str], term: int) -> None:
    left = set(Node.objects.filter(pk__in=gone, leaving=True).values_list("name", flat=True))
    for name in gone.values():
        say = log.info if name in left else log.warning
        say("node_expired", node=name, term=term)


@own_transaction
def _schedule(chunk: Sequence[Sent], cache: SnapshotCache, term: int | None, actor: str) -> list[Move]:
    writer = MapWriter(term, actor)
    todo = ChangeBuilder(chunk).changes
    if not todo:
        return []
    changes.attach_orders([*todo.changed, *todo.new])
    for entry in todo.changed:
        _keep_owner(writer, entry)
    for entry in todo.removed:
        if entry.owner is not None:
            writer.move(entry, None, Move.Reason.CHANGED)
    ownerless = [
        entry for entry in (*todo.changed, *todo.new)
        if not entry.endpoint and not entry.paused and entry.owner is None and entry.dangling_since is None
    ]  # fmt: skip
    placed = writer.place(ownerless, cache.at(writer.store.revision), Move.Reason.SCHEDULED) if ownerless else []
    changes.write(todo, actor)
    writer.assign(placed, Move.Reason.SCHEDULED)
    return writer.finish()


def _keep_owner(writer: MapWriter, entry: Entry) -> None:
    """An edited config stays on its node, unless it became an endpoint's: then its node runs it without being its owner."""
    if entry.endpoint:
        Assignment.objects.filter(config_id=entry.id).delete()
        Config.objects.settle([entry.id])
        entry.dangling_since = None
    if entry.owner is not None:
        writer.move(entry, None if entry.endpoint else entry.owner, Move.Reason.CHANGED)


@own_transaction
def _unschedule(chunk: Sequence[tuple[str, str]], term: int | None, actor: str) -> list[Move]:
    writer = MapWriter(term, actor)
    origins = dict(Origin.objects.keyed(chunk).values_list("pk", "config_id"))
    entries = {entry.id: entry for entry in changes.entries(origins.values())}
    for config_id in origins.values():
        entries[config_id].origins -= 1
    gone = [entry for entry in entries.values() if not entry.origins]
    for entry in gone:
        if entry.owner is not None:
            writer.move(entry, None, Move.Reason.UNSCHEDULED)
    Origin.objects.filter(pk__in=origins).delete()
    remove_configs([entry.id for entry in gone])
    changes.use_remaining_origins([entry.id for entry in entries.values() if entry.origins])
    return writer.finish() if origins else []


@own_transaction
def _disown(chunk: Sequence[tuple[str, str]], term: int | None) -> list[Move]:
    ClusterStore.objects.lock(term)
    ids = set(Origin.objects.keyed(chunk).values_list("config_id", flat=True))
    changes.name_sources(ids, unless={f"{source}:{parent_of(key)}" for source, key in chunk})
    return []


def _give_out(rows: Sequence[tuple[int, str, int | None]], most: float, term: int | None, actor: str) -> list[Move]:
    """Place what some node may have. The rest is sorted out before any lock is taken: it may be much, at each pass."""
    back = set(Config.objects.of_nodes_that_came_back().values_list("pk", flat=True))
    cache = SnapshotCache(most, cold=True)
    snapshot = cache.read()
    hopeful = [entry.id for entry in light_entries(rows, snapshot) if snapshot.has_place(entry)]
    moves = in_chunks(hopeful, lambda chunk: _redispatch(chunk, cache, term, actor), cache)
    if back and snapshot and most == math.inf:
        in_chunks(sorted(back), lambda chunk: _forget_former(chunk, term))
    return moves


@own_transaction
def _forget_former(ids: Collection[int], term: int | None) -> list[Move]:
    """What could not be given back to who had it waits for that node no longer, or it would not be told what else it has."""
    ClusterStore.objects.lock(term)
    Config.objects.dangling().filter(pk__in=ids).update(former_node=None)
    return []


@own_transaction
def _redispatch(ids: Sequence[int], cache: SnapshotCache, term: int | None, actor: str) -> list[Move]:
    return _place_dangling(MapWriter(term, actor), ids, cache, term)


def _place_dangling(writer: MapWriter, ids: Sequence[int], cache: SnapshotCache, term: int | None) -> list[Move]:
    snapshot = cache.at(writer.store.revision)
    if not snapshot:
        return []
    # Someone may have placed some of them since they were listed.
    dangling = [entry for entry in entries_of(ids) if entry.dangling_since is not None]
    placed = writer.place(dangling, snapshot, Move.Reason.REDISPATCHED)
    writer.assign(placed, Move.Reason.REDISPATCHED)
    Config.objects.settle([entry.id for entry in placed])
    if term is not None:
        # Each chunk is a sign of life: the pass after a long one must not believe that nobody heard meanwhile.
        Hearing.objects.note_pass()
    if placed:
        return writer.finish()
    cache.keep()
    return []


def _end_warmup(tried: set[int], term: int | None, actor: str) -> list[Move]:
    """End the warm-up, and place what came to dangle since these were tried. Sources that send faster are waited for."""
    moves: list[Move] = []
    cache = SnapshotCache(cold=True)
    for _ in range(MOST_ROUNDS):
        cache.prepare()
        has_ended, late, placed = _end_unless_much_is_late(tried, cache, term, actor)
        moves += placed
        if has_ended:
            log.info("warmup_ended")
            break
        moves += in_chunks(late, lambda chunk: _redispatch(chunk, cache, term, actor), cache)
        tried.update(late)
    return moves


@own_transaction
def _end_unless_much_is_late(
    tried: Collection[int], cache: SnapshotCache, term: int | None, actor: str
) -> tuple[bool, list[int], list[Move]]:
    """The transaction that ends the warm-up places what is late: nobody sees a part of the map. Not if that is too much."""
    writer = MapWriter(term, actor)
    late = [id_ for id_ in Config.objects.dangling().order_by("pk").values_list("pk", flat=True) if id_ not in tried]
    if len(late) > transaction.CHUNK:
        return False, late, []
    moves = _place_dangling(writer, late, cache, term) if late else []
    Hearing.objects.update(warmup=False)
    return True, late, moves


def pile_up_ceiling(leaving: int = 0) -> float:
    """The most that a node may have while much that was lost, or that leaving nodes have, waits for an owner."""
    lost = Config.objects.lost_since(ago(NO_PILE_UP)).count() + leaving
    if not lost:
        return math.inf
    before = Node.objects.filter(Q(heartbeat__isnull=False) | Q(lost_at__gte=ago(NO_PILE_UP))).count()
    return ceiling(Config.objects.dispatchable().count(), lost, before)
