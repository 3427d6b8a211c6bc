"""The verbs for configs that come, change and go, and for nodes that expire; and which configs are dispatched at all."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any

import structlog
from django.db.models import Count, Exists, OuterRef, Q

from acts.models import Act
from acts.recording import deed, someone_acts
from checks.balancing import ceiling
from checks.dispatcher import acting, changes, settling, transaction
from checks.dispatcher.changes import ChangeBuilder, Entry, Sent
from checks.dispatcher.returning import give_back
from checks.dispatcher.transaction import (
    MapWriter,
    SnapshotCache,
    entries_of,
    in_chunks,
    light_entries,
    own_transaction,
)
from checks.models import Assignment, ClusterStore, Config, Handover, Move, Origin, Source, bounds
from checks.models.map import remove_configs
from checks.wire import options, patching
from checks.wire.patching import IntegrationConfig, PatchedConfig
from checks.wire.sharding import parent_of
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.traces import counting
from nodes.hearing import lose_expired, warmed_up
from nodes.models import Hearing, Heartbeat, Node
from nodes.models.nodes import NodeQuerySet

# For so long the configs of a lost node rather wait for room than pile up on the nodes that are left.
NO_PILE_UP = timedelta(seconds=60)
# How often one pass places what came meanwhile before it can end the warm-up.
MOST_ROUNDS = 10

log = structlog.get_logger()


class Refused(ValueError):
    """The config is not dispatched; the message names the rule."""


def admit(config: IntegrationConfig) -> PatchedConfig:
    """Return the config as it is dispatched: patched. Raises Refused (a filter excludes it) or UnpatchableConfig."""
    require_admissible(config)
    return patching.patch(config, options.extra_tags())


def require_admissible(config: IntegrationConfig) -> None:
    """Raise Refused if a filter excludes the config."""
    if config.name in conf.EXCLUDE_CHECKS:
        raise Refused(f"{config.name} is in cluster_checks.exclude_checks")
    if not (config.cluster_check or config.node_name):
        raise Refused(f"{config.name} is not a cluster check")
    if config.metrics_excluded:
        raise Refused(f"{config.name} is excluded from metrics")
    if config.is_template:
        raise Refused(f"{config.name} is a template: it has ad_identifiers and no node_name")


@counting("moves")
def schedule(sent: Iterable[Sent], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Store what origins send, and return the moves: new configs are placed, changed ones stay on their nodes.

    What is sent unchanged changes nothing. More than CHUNK configs are not atomic.
    """
    latest = {(one.source, one.key): one for one in sent}
    cache = SnapshotCache(lazy=True)
    first = list(latest)[: transaction.CHUNK]
    if Origin.objects.keyed(first).count() < len(first):
        cache.read()
    return in_chunks(list(latest.values()), lambda chunk: _schedule(chunk, cache, term, actor), cache)


@counting("moves")
def unschedule(origins: Collection[tuple[str, str]], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Delete these origins, (source, key) pairs, and the configs that no origin sends any more. Returns the moves.

    More than CHUNK origins are not atomic.
    """

    @own_transaction
    def step(chunk: Sequence[tuple[str, str]]) -> list[Move]:
        writer = MapWriter(term, actor)
        configs = dict(Origin.objects.keyed(chunk).values_list("pk", "config_id"))
        entries = {entry.id: entry for entry in changes.entries(configs.values())}
        for config_id in configs.values():
            entries[config_id].origins -= 1
        gone = [entry for entry in entries.values() if not entry.origins]
        for entry in gone:
            if entry.owner is not None:
                writer.move(entry, None, Move.Reason.UNSCHEDULED)
            elif not entry.endpoint:
                # Paused, or without a node that may run it: the ledger has that it is gone all the same.
                writer.note(entry, Move.Reason.UNSCHEDULED)
        Origin.objects.filter(pk__in=configs).delete()
        remove_configs([entry.id for entry in gone])
        changes.use_remaining_origins([entry.id for entry in entries.values() if entry.origins])
        return writer.finish() if configs else []

    return in_chunks(sorted(set(origins)), step)


def name_other_origins(origins: Collection[tuple[str, str]], *, term: int | None = None) -> None:
    """Let configs of these origins, (source, key) pairs that can't be read now, name another origin that sends them, if any.

    More than CHUNK origins are not atomic.
    """

    @own_transaction
    def step(chunk: Sequence[tuple[str, str]]) -> list[Move]:
        ClusterStore.objects.lock(term)
        ids = set(Origin.objects.keyed(chunk).values_list("config_id", flat=True))
        changes.name_sources(ids, unless={f"{source}:{parent_of(key)}" for source, key in chunk})
        return []

    in_chunks(sorted(set(origins)), step)


@counting("moves")
def expire_nodes(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Take all configs from the nodes that expired, and return the moves. Each step of at most CHUNK configs is a transaction.

    force: also when the silence may be our own fault.
    """
    before = _overdue() if someone_acts() else None
    with deed(Act.Verb.EXPIRE, "lost nodes", before=before, after={"force": force}) as outcome:
        moves: list[Move] = []
        expired: list[str] = []
        for gone, taken in _expire_all(term, force, actor):
            moves += taken
            expired += gone
            if expired:
                outcome.told |= {"expired": len(expired), "nodes": expired[: acting.MOST_BEFORE]}
                outcome.nodes |= {*gone}
            acting.note_moves(outcome, taken)
        return moves


def _overdue() -> dict[str, Any]:
    """The nodes that are silent for too long, for an act."""
    names = sorted(Node.objects.expired(force=True).values_list("name", flat=True))
    return {"silent": len(names), "nodes": names[: acting.MOST_BEFORE]}


def _expire_all(term: int | None, force: bool, actor: str) -> Iterator[tuple[list[str], list[Move]]]:
    """Expire nodes step by step. Yields the names of each step's, and its moves."""
    while (ids := _next_to_expire(force)) or _not_emptied().exists():
        gone, taken, led, goes_on = _expire(ids, term, force, actor)
        left = set(Node.objects.filter(pk__in=gone, leaving=True).values_list("name", flat=True))
        for name in gone.values():
            write = log.info if name in left else log.warning
            write("node_expired", node=name, term=led)
        yield list(gone.values()), taken
        if not (gone or taken or goes_on):
            break  # they reported after they were listed


@counting("moves")
def redispatch(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Place dangling configs, and return the moves. It also ends the warm-up.

    Nodes that are back get what they lost: what dangles, and what others were given and have not fetched.
    force: also during the warm-up, and without a ceiling. More than CHUNK configs are not atomic. Raises Outside.
    """
    bounds.require_all(bounds.NEEDED["reassign"], "it places whatever dangles")
    before = acting.first_named(Config.objects.dangling()) if someone_acts() else None
    with deed(Act.Verb.DISPATCH, "dangling configs", before=before, after={"force": force}) as outcome:
        moves: list[Move] = []
        for made in _redispatched(term, force, actor):
            moves += made
            acting.note_moves(outcome, made)
        return moves


def _redispatched(term: int | None, force: bool, actor: str) -> Iterator[list[Move]]:
    """Place dangling configs, and yield the moves of each step."""
    columns = ("dangling_since", "pk", "name", "former_node")
    waiting = Config.objects.awaiting_a_node().order_by(*columns[:2]).values_list(*columns)
    dangling = [row for since, *row in waiting if since]
    is_cold = Hearing.objects.filter(warmup=True).exists()
    if len(dangling) < len(waiting) and not is_cold:
        yield give_back(term, actor)
    if not (dangling or is_cold):
        return
    is_warm = warmed_up(sources_read=not Source.objects.awaited().exists())
    if not (is_warm or force):
        return
    if dangling:
        yield _redispatch_all(dangling, math.inf if force else pile_up_ceiling(), term, actor)
    if is_warm and is_cold:
        yield _end_warmup({id_ for id_, *_ in dangling}, term, actor)


def _next_to_expire(force: bool) -> list[int]:
    """The ids of the first expired nodes that together have at most CHUNK configs, but at least one node."""
    if not Heartbeat.objects.perhaps_dead().exists():
        return []  # the usual case, and the whole question would take longer
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
def _expire(
    ids: Collection[int], term: int | None, force: bool, actor: str
) -> tuple[dict[int, str], list[Move], int, bool]:
    """Mark these nodes as lost, and take up to CHUNK configs from lost nodes: first those that other nodes hand over to them.

    Returns the nodes that were lost, {id: name}, the moves, the store's term, and whether more hand-overs of theirs are left.
    """
    writer = MapWriter(term, actor)
    store = writer.store
    gone = lose_expired(Node.objects.filter(pk__in=ids), force=force)
    ended = settling.end_of_lost(writer, transaction.CHUNK)
    moves = writer.finish()
    if ended == transaction.CHUNK:
        # There may be more, which must not lose their former nodes' part with what is taken away.
        return gone, moves, store.term, True
    # Locked, so that a node that comes back meanwhile keeps what it still has.
    emptied = _not_emptied().order_by("pk").select_for_update(no_key=True, of=("self",))
    taken = Assignment.objects.take_away(
        [node.pk for node in emptied], most=transaction.CHUNK, reason=Move.Reason.EXPIRED, term=store.term, actor=actor
    )
    return gone, moves + taken, store.term, False


def _not_emptied() -> NodeQuerySet:
    """The lost nodes that still have configs, or hand some over."""
    held, handed = Assignment.objects.filter(node=OuterRef("pk")), Handover.objects.handed_over_by(OuterRef("pk"))
    return Node.objects.filter(Exists(held) | Exists(handed), lost_at__isnull=False)


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
    """Keep an edited config on its node. If it became an endpoint check, it loses its owner: its endpoint's node runs it."""
    if entry.endpoint:
        Assignment.objects.filter(config_id=entry.id).delete()
        Config.objects.settle([entry.id])
        entry.dangling_since = None
    if entry.owner is not None:
        writer.move(entry, None if entry.endpoint else entry.owner, Move.Reason.CHANGED)


def _redispatch_all(
    rows: Sequence[tuple[int, str, int | None]], most: float, term: int | None, actor: str
) -> list[Move]:
    """Place the configs that a node may have. The others are left out before any lock is taken: they may be many in each pass."""
    back = set(Config.objects.of_nodes_that_came_back().values_list("pk", flat=True))
    cache = SnapshotCache(most, cold=True)
    snapshot = cache.read()
    hopeful = [entry.id for entry in light_entries(rows, snapshot) if snapshot.has_place(entry)]
    moves = in_chunks(hopeful, lambda chunk: _redispatch(chunk, cache, term, actor), cache)

    @own_transaction
    def forget_former(chunk: Sequence[int]) -> list[Move]:
        ClusterStore.objects.lock(term)
        Config.objects.dangling().filter(pk__in=chunk).update(former_node=None)
        return []

    # Those that could not go back to their former nodes: while they wait, such a node gets no configs at all.
    if back and snapshot and most == math.inf:
        in_chunks(sorted(back), forget_former)
    return moves


@own_transaction
def _redispatch(ids: Sequence[int], cache: SnapshotCache, term: int | None, actor: str) -> list[Move]:
    return _place_dangling(MapWriter(term, actor), ids, cache, term)


def _place_dangling(writer: MapWriter, ids: Sequence[int], cache: SnapshotCache, term: int | None) -> list[Move]:
    snapshot = cache.at(writer.store.revision)
    if not snapshot:
        return []
    # Others may have placed some of them since they were listed. Who waits longest gets what room there is.
    dangling = [entry for entry in entries_of(ids) if entry.dangling_since is not None]
    dangling.sort(key=attrgetter("dangling_since", "id"))
    placed = writer.place(dangling, snapshot, Move.Reason.REDISPATCHED)
    writer.assign(placed, Move.Reason.REDISPATCHED)
    for_lost = {entry.id for entry in placed if entry.near and entry.near not in snapshot.by_id}
    Config.objects.settle({entry.id for entry in placed} - for_lost)
    if for_lost:
        Config.objects.settle(for_lost, for_lost_node=True)
    if term is not None:
        # Note each chunk as a pass: otherwise the pass after a long one would conclude that nobody heard the nodes meanwhile.
        Hearing.objects.note_pass()
    if placed:
        return writer.finish()
    cache.keep()
    return []


def _end_warmup(tried: set[int], term: int | None, actor: str) -> list[Move]:
    """End the warm-up, and place what dangles besides the configs in `tried`. If sources send too fast, a later pass ends it."""
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
    """End the warm-up and place the late configs in one transaction, so that nobody sees a part of the map.

    Returns whether it ended, the late configs, and the moves. It does nothing if more than CHUNK are late.
    """
    writer = MapWriter(term, actor)
    late = [id_ for id_ in Config.objects.dangling().order_by("pk").values_list("pk", flat=True) if id_ not in tried]
    if len(late) > transaction.CHUNK:
        return False, late, []
    moves = _place_dangling(writer, late, cache, term) if late else []
    Hearing.objects.update(warmup=False)
    return True, late, moves


def pile_up_ceiling(leaving: int = 0) -> float:
    """The most configs that a node may have while lost configs, and `leaving` more, wait for an owner; inf when none wait."""
    lost = Config.objects.lost_since(ago(NO_PILE_UP)).count() + leaving
    if not lost:
        return math.inf
    before = Node.objects.filter(Q(heartbeat__isnull=False) | Q(lost_at__gte=ago(NO_PILE_UP))).count()
    return ceiling(Config.objects.dispatchable().count(), lost, before)
