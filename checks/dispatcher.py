"""The dispatcher: every verb that changes who runs what.

Each verb locks the one ClusterStore row in a short transaction, writes what it moved to the ledger, and returns those
moves. Given a `term`, it raises NotLeader instead of writing once that term is over. Verbs that touch many configs work in
chunks, each locking anew and complete in itself, so that nobody waits a second for the lock.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from checks import changes, patching, wire
from checks.balancing import Pool, ceiling
from checks.changes import Entry, Reckoning, Sent
from checks.models import Assignment, ClusterStore, Config, Move, Origin, Source
from checks.querysets import NotLeader, copy
from checks.wire import IntegrationConfig, PatchedConfig
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Node, NodeEvent
from nodes.querysets import UnknownNode

T = TypeVar("T")

CHUNK = 1000
# How long what a dead node left may wait for room, rather than be piled on the survivors.
NO_PILE_UP = timedelta(seconds=60)

log = structlog.get_logger()


class Refused(ValueError):
    """A config that is not dispatched; the message names the rule."""


class NotAccepting(ValueError):
    """The node can't be given work; the message says why."""


class NotDispatchable(ValueError):
    """The config can't be assigned; the message says why."""


class Pass(NamedTuple):
    """What a background pass moved."""

    expired: int
    placed: int


def admit(config: IntegrationConfig) -> PatchedConfig:
    """Patch a config that is to be dispatched. Raises Refused when a filter keeps it, UnpatchableConfig when it is broken."""
    if config.name in conf.EXCLUDE_CHECKS:
        raise Refused(f"{config.name} is in cluster_checks.exclude_checks")
    if not (config.cluster_check or config.node_name):
        raise Refused(f"{config.name} is not a cluster check")
    if config.metrics_excluded:
        raise Refused(f"{config.name} is excluded from metrics")
    if config.is_template:
        raise Refused(f"{config.name} is a template: it has ad_identifiers and no node_name")
    return wire.patch(config, patching.extra_tags())


def schedule(sent: Iterable[Sent], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Take in what origins send: what is new is placed, what changed stays where it is, the same again changes nothing."""
    latest = {(one.source, one.key): one for one in sent}
    pools = _Pools()
    return _in_chunks(list(latest.values()), lambda chunk: _schedule(chunk, pools, term, actor))


def unschedule(origins: Collection[tuple[str, str]], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Forget these (source, key) pairs; a config that no origin sends any more is gone."""
    return _in_chunks(sorted(set(origins)), lambda chunk: _unschedule(chunk, term, actor))


def expire_nodes(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Take every config away from the nodes that expired. force skips the guards against our own deafness."""
    if not Node.objects.expired(force=force).exists():
        return []
    with transaction.atomic():
        store = ClusterStore.objects.lock(term)
        gone = Node.objects.expire(force=force)
        moves = Assignment.objects.take_away(gone, reason=Move.Reason.EXPIRED, term=store.term, actor=actor)
        ClusterStore.objects.update(revision=F("revision") + 1)
    for name in gone.values():
        log.warning("node_expired", node=name, term=store.term)
    return moves


def redispatch(*, term: int | None = None, force: bool = False, actor: str = "") -> list[Move]:
    """Place what dangles, each config on its former node if that is back. force skips the warm-up and the ceiling."""
    warmed_up = Hearing.objects.warmed_up(sources_read=not Source.objects.filter(read_at=None).exists())
    if not (warmed_up or force):
        return []
    dangling = list(Config.objects.dangling().order_by("dangling_since", "pk").values_list("pk", flat=True))
    pools = _Pools(math.inf if force or not dangling else _ceiling(), cold=True)
    moves = _in_chunks(dangling, lambda chunk: _redispatch(chunk, pools, term, actor))
    if warmed_up and Hearing.objects.filter(warmup=True).exists():
        moves += _end_warmup(term, actor)
    return moves


def reassign(config_ids: Collection[int], node_name: str, *, actor: str) -> list[Move]:
    """Give configs to a node. Raises UnknownNode, NotAccepting or NotDispatchable, naming what can't be done."""
    return _in_chunks(sorted(set(config_ids)), lambda chunk: _reassign(chunk, node_name, actor))


def run_pass(term: int) -> Pass:
    """One background pass of the leader: hear, expire, re-dispatch, flag, note the time. Raises NotLeader."""
    if not ClusterStore.objects.filter(term=term).exists():
        raise NotLeader(f"term {term} is over")
    Hearing.objects.listen()
    for name in NodeEvent.objects.note_silent():
        log.warning("node_silent", node=name, term=term)
    expired = expire_nodes(term=term)
    placed = redispatch(term=term)
    for name in Config.objects.flag_unscheduled():
        log.warning("config_unscheduled", check=name, term=term)
    Hearing.objects.note_pass()
    return Pass(len(expired), len(placed))


def _in_chunks(items: Sequence[T], verb: Callable[[Sequence[T]], list[Move]]) -> list[Move]:
    return [move for start in range(0, len(items), CHUNK) for move in verb(items[start : start + CHUNK])]


class _Pools:
    """The nodes that may be given work, for the chunks of one verb. Counting them anew for each chunk would take longer
    than placing it, so the pool is kept while nobody else changes the map, but not for longer than a second: a node may be
    cordoned or fall silent meanwhile.
    """

    def __init__(self, ceiling: float = math.inf, *, cold: bool = False) -> None:
        """cold: also during the warm-up, when there are no such nodes for anybody else."""
        self._ceiling = ceiling
        self._cold = cold
        self._revision = -1
        self._counted = 0.0

    def at(self, revision: int) -> Pool[int]:
        """The pool under the lock of a store of that revision; what is placed from it raises the revision by one."""
        if revision != self._revision or time.monotonic() - self._counted > 1:
            self._pool = self._count()
            self._counted = time.monotonic()
        self._revision = revision + 1
        return self._pool

    def _count(self) -> Pool[int]:
        if not self._cold and Hearing.objects.filter(warmup=True).exists():
            return Pool({}, {})
        names = dict(Node.objects.accepting().values_list("pk", "name"))
        return Pool(names, Assignment.objects.costs(), self._ceiling)


class _Turn:
    """One transaction that changes the map: what moves, and which nodes need a new version for it."""

    def __init__(self, term: int | None, actor: str) -> None:
        self.store = ClusterStore.objects.lock(term)
        self._actor = actor
        self._moves: list[tuple[Entry, int | None, int | None, str]] = []

    def move(self, entry: Entry, to: int | None, reason: str) -> None:
        """Note that a config's owner becomes `to` (the owner itself: it has other bytes)."""
        self._moves.append((entry, entry.owner, to, reason))
        entry.owner = to
        entry.dangling_since = None

    def place(self, entries: Iterable[Entry], pool: Pool[int], reason: str) -> list[Entry]:
        """Choose a node for each, let the others dangle, and return those placed."""
        placed = []
        for entry in entries:
            node = pool.place(near=entry.near)
            if node is None:
                entry.dangling_since = entry.dangling_since or self.store.now
            else:
                self.move(entry, node, reason)
                placed.append(entry)
        return placed

    def assign(self, entries: Collection[Entry], reason: str) -> None:
        """Write the owners of configs that had none."""
        copy(Assignment, ("config_id", "node_id", "reason"), ((entry.id, entry.owner, reason) for entry in entries))

    def finish(self) -> list[Move]:
        """Raise versions and revision, write the ledger, and return its new lines."""
        touched = {node for _, source, to, _ in self._moves for node in (source, to) if node is not None}
        names = dict(Node.objects.filter(pk__in=touched).values_list("pk", "name"))
        Node.objects.bump_versions(touched)
        moves = [
            Move(
                config_id=entry.id, digest=entry.digest, name=entry.name, reason=reason, actor=self._actor,
                source_node=names.get(source or 0, ""), to_node=names.get(to or 0, ""), term=self.store.term, time=self.store.now,
            )
            for entry, source, to, reason in self._moves
        ]  # fmt: skip
        Move.objects.write(moves)
        ClusterStore.objects.update(revision=F("revision") + 1)
        return moves


@transaction.atomic
def _schedule(chunk: Sequence[Sent], pools: _Pools, term: int | None, actor: str) -> list[Move]:
    turn = _Turn(term, actor)
    todo = Reckoning(chunk).changes
    if not todo:
        return []
    for entry in todo.changed:
        _keep_owner(turn, entry)
    for entry in todo.removed:
        if entry.owner is not None:
            turn.move(entry, None, Move.Reason.CHANGED)
    ownerless = [
        entry for entry in (*todo.changed, *todo.new)
        if not entry.endpoint and entry.owner is None and entry.dangling_since is None
    ]  # fmt: skip
    placed = turn.place(ownerless, pools.at(turn.store.revision), Move.Reason.SCHEDULED) if ownerless else []
    changes.write(todo)
    turn.assign(placed, Move.Reason.SCHEDULED)
    return turn.finish()


def _keep_owner(turn: _Turn, entry: Entry) -> None:
    """An edited config stays on its node, unless it became an endpoint's: then its node runs it without being its owner."""
    if entry.endpoint:
        Assignment.objects.filter(config_id=entry.id).delete()
        Config.objects.settle([entry.id])
        entry.dangling_since = None
    if entry.owner is not None:
        turn.move(entry, None if entry.endpoint else entry.owner, Move.Reason.CHANGED)


@transaction.atomic
def _unschedule(chunk: Sequence[tuple[str, str]], term: int | None, actor: str) -> list[Move]:
    turn = _Turn(term, actor)
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
    return turn.finish() if origins else []


@transaction.atomic
def _redispatch(ids: Sequence[int], pools: _Pools, term: int | None, actor: str) -> list[Move]:
    turn = _Turn(term, actor)
    pool = pools.at(turn.store.revision)
    if not pool:
        return []
    # Someone may have placed some of them since they were listed.
    dangling = [entry for entry in changes.entries(ids) if entry.dangling_since is not None]
    placed = turn.place(dangling, pool, Move.Reason.REDISPATCHED)
    turn.assign(placed, Move.Reason.REDISPATCHED)
    Config.objects.settle([entry.id for entry in placed])
    if term is not None:
        # Each chunk is a sign of life: the pass after a long one must not believe that nobody heard meanwhile.
        Hearing.objects.note_pass()
    return turn.finish() if placed else []


@transaction.atomic
def _end_warmup(term: int | None, actor: str) -> list[Move]:
    """The transaction that ends the warm-up places what came to dangle meanwhile: nobody sees a part of the map."""
    ClusterStore.objects.lock(term)
    late = list(Config.objects.dangling().values_list("pk", flat=True))
    moves = _redispatch(late, _Pools(cold=True), term, actor)
    Hearing.objects.update(warmup=False)
    log.info("warmup_ended")
    return moves


@transaction.atomic
def _reassign(ids: Sequence[int], node_name: str, actor: str) -> list[Move]:
    turn = _Turn(None, actor)
    node = _accepting(node_name)
    entries = changes.entries(ids)
    _check_dispatchable(ids, entries)
    moving = [entry for entry in entries if entry.owner != node.pk]
    assigned = [entry.id for entry in moving if entry.owner is not None]
    dangling = [entry for entry in moving if entry.owner is None]
    for entry in moving:
        turn.move(entry, node.pk, Move.Reason.OPERATOR)
    Assignment.objects.filter(config_id__in=assigned).update(node=node, since=Now(), reason=Move.Reason.OPERATOR)
    turn.assign(dangling, Move.Reason.OPERATOR)
    Config.objects.settle([entry.id for entry in dangling])
    return turn.finish() if moving else []


def _check_dispatchable(ids: Sequence[int], entries: Sequence[Entry]) -> None:
    missing = set(ids) - {entry.id for entry in entries}
    if missing:
        raise NotDispatchable(f"config {min(missing)} does not exist any more")
    for entry in entries:
        if entry.endpoint:
            raise NotDispatchable(f"{entry.name} {entry.digest} is an endpoint check: it runs where its endpoint is")


def _accepting(name: str) -> Node:
    node = Node.objects.known().filter(name=name).first()
    if node is None:
        raise UnknownNode(f"node {name} is unknown")
    if not node.schedulable:
        raise NotAccepting(f"node {name} is cordoned: it gets nothing new")
    if not Node.objects.alive().filter(pk=node.pk).exists():
        raise NotAccepting(f"node {name} is silent for longer than {conf.NODE_EXPIRATION_TIMEOUT.total_seconds():g} s")
    if Hearing.objects.filter(warmup=True).exists():
        raise NotAccepting("nothing is placed before the warm-up of this new database is over")
    return node


def _ceiling() -> float:
    """The most that a node may have while much that was lost waits for an owner (no pile-up)."""
    lost = Config.objects.lost_since(ago(NO_PILE_UP)).count()
    if not lost:
        return math.inf
    before = Node.objects.filter(Q(heartbeat__isnull=False) | Q(lost_at__gte=ago(NO_PILE_UP))).count()
    return ceiling(Config.objects.dispatchable().count(), lost, before)
