"""What every verb is made of: one transaction that changes the map, and the nodes that may be given work in it."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import F

from checks.balancing import Pool
from checks.dispatcher import changes, costs
from checks.dispatcher.changes import Entry
from checks.eligibility import Candidate, Eligibility, candidates, name_origins
from checks.models import Assignment, ClusterStore, Config, Move
from checks.models.orders import Isolation, Pin
from clusteragent.lib.database.rows import copy
from nodes.models import Hearing, Node

T = TypeVar("T")
P = ParamSpec("P")

CHUNK = 1000
# Seconds that a step should not take, and what it is given at least.
LONG, FEWEST = 0.25, 100

_as_one: ContextVar[bool] = ContextVar("as_one", default=False)


def committed(step: Callable[P, T]) -> Callable[P, T]:
    """A step of a verb: a transaction of its own, which is committed when it returns.

    Raises RuntimeError inside of another transaction, but for `as_one`: that would hold the store's lock until the last
    of all steps.
    """

    @wraps(step)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with transaction.atomic(durable=not _as_one.get()):
            return step(*args, **kwargs)

    return wrapper


@contextmanager
def as_one() -> Iterator[None]:
    """One transaction around verbs of which nobody may see a part. Inside, none takes more than CHUNK: RuntimeError."""
    with transaction.atomic(durable=not _as_one.get()):
        token = _as_one.set(True)
        try:
            yield
        finally:
            _as_one.reset(token)


def in_chunks(
    items: Sequence[T], verb: Callable[[Sequence[T]], list[Move]], pools: "Pools | None" = None
) -> list[Move]:
    """What a step moves, taken for CHUNK items after the other. What fails later than in the first notes what is done.

    After a step that took long the next ones get fewer: on a busy machine others must not wait for longer, either.
    pools: nodes to be counted before a step takes the lock, where that must be.
    """
    if _as_one.get() and len(items) > CHUNK:
        raise RuntimeError(f"{len(items)} are too many to be changed in one transaction")
    moves: list[Move] = []
    start, size = 0, CHUNK
    while start < len(items):
        if pools is not None:
            pools.prepare()
        began = time.monotonic()
        try:
            moves += verb(items[start : start + size])
        except Exception as error:
            if start:
                error.add_note(f"the first {start} of {len(items)} are done")
            raise
        start += size
        size = _fitting(size, time.monotonic() - began)
    return moves


def _fitting(size: int, seconds: float) -> int:
    """How many items the next step gets, when this one with so many took that long."""
    if seconds > LONG:
        return max(size // 2, min(FEWEST, CHUNK))
    return min(size * 2, CHUNK) if seconds < LONG / 3 else size


def told(error: Exception) -> str:
    """What an error of a verb says, and what was done before it."""
    return "; ".join([" ".join(str(error).split()), *getattr(error, "__notes__", ())])


class Placement:
    """The nodes that may be given work as they are at one moment, and what configs that nobody measured cost."""

    def __init__(self, nodes: Collection[int] | None = None, ceiling: float = math.inf) -> None:
        """nodes: none but these, all that accept work unless given."""
        chosen = Node.objects.accepting()
        if nodes is not None:
            chosen = chosen.filter(pk__in=nodes)
        # An isolated config's node is its own, unless there is no other.
        lonely = Isolation.objects.filter(config__assignment__node__isnull=False).values("config__assignment__node")
        self.is_kept = False
        if lonely.exists():
            self.is_kept = not chosen.exclude(pk__in=lonely).exists()
            chosen = chosen if self.is_kept else chosen.exclude(pk__in=lonely)
        self.eligibility = Eligibility(candidates(chosen))
        self._all = frozenset(node.id for node in self.eligibility.nodes)
        self._steady = frozenset(chosen.steady().values_list("pk", flat=True))
        self._steadiest: dict[frozenset[int] | None, frozenset[int]] = {}
        self._able: dict[frozenset[int] | None, list[Candidate]] = {}
        self._has_place: dict[frozenset[int] | None, bool] = {}
        self._means = costs.means()
        self._pool = self._fill(chosen.values_list("pk", "weight", "max_configs"), ceiling)

    def _fill(self, rows: Iterable[tuple[int, float, int | None]], ceiling: float) -> Pool[int]:
        workers = costs.workers()
        weights = {pk: weight * workers[pk] for pk, weight, _ in rows if pk in workers}
        limits = {pk: limit for pk, _, limit in rows if limit is not None}
        names = {node.id: node.name for node in self.eligibility.nodes}
        counts = Assignment.objects.counts()
        return Pool(names, costs.by_node(), ceiling, counts=counts, workers=weights, limits=limits)

    def __len__(self) -> int:
        return len(self._pool)

    def peak(self, *, without: int) -> float:
        """The highest load of these nodes but one, 0 when there is no other."""
        return max((self._pool.load(node.id) for node in self.eligibility.nodes if node.id != without), default=0.0)

    def able(self, entry: Entry) -> list[Candidate]:
        """The nodes that may have a config and have room, as it was when first asked, without those that come and go."""
        among = self.eligibility.among(entry)
        if among not in self._able:
            able = self._steady if among is None else among & self._steady
            self._able[among] = [
                node for node in self.eligibility.nodes if node.id in able and self._pool.has_room(node.id)
            ]
        return self._able[among] or self._without_pin(entry, self.able) or []

    def has_place(self, entry: Entry) -> bool:
        """Whether some node may have a config and has room."""
        among = self.eligibility.among(entry)
        if among not in self._has_place:
            self._has_place[among] = any(map(self._pool.has_room, self._all if among is None else among))
        return self._has_place[among] or bool(self._without_pin(entry, self.has_place))

    def choose(self, entry: Entry, *, elsewhere: bool = False, fall_back: bool = True) -> int | None:
        """The node that gets a config: the one near to it if it may, else the least loaded. None: nobody may, or has room.

        elsewhere: not the node that has it. fall_back: where its pin aims at has no room, another.
        """
        node = self._choose(entry, elsewhere)
        if node is None and fall_back:
            node = self._without_pin(entry, lambda entry: self._choose(entry, elsewhere))
        return node

    def _without_pin(self, entry: Entry, ask: Callable[[Entry], T]) -> T | None:
        """What there is for a config where its pin does not insist."""
        if entry.pin is None or entry.pin.waits:
            return None
        pin, entry.pin = entry.pin, None
        answer = ask(entry)
        entry.pin = pin
        return answer

    def _choose(self, entry: Entry, elsewhere: bool) -> int | None:
        cost = self._means.of(entry.name) if entry.cost is None else entry.cost
        among = self._among(entry, elsewhere=elsewhere)
        best = [[name, round(load, 4)] for name, load in self._pool.best(among)]
        entry.why = {"cost": round(cost, 6), "of": len(self._pool if among is None else among), "best": best}
        node = self._pool.place(cost, entry.near, among)
        if node is not None:
            self.eligibility.take(entry, node)
        return node

    def _among(self, entry: Entry, *, elsewhere: bool) -> frozenset[int] | None:
        """Those that may have it, and of these the steady ones, if there are any; None: all."""
        among = self.eligibility.among(entry)
        if elsewhere:
            among = (self._all if among is None else among) - {entry.owner or 0}
        if len(self._steady) == len(self._all):
            return among
        if among not in self._steadiest:
            able = self._all if among is None else among
            self._steadiest[among] = able & self._steady or able
        return self._steadiest[among]


class Pools:
    """The nodes that may be given work, for the chunks of one verb. Counting them anew for each chunk would take longer
    than placing it, so they are kept while nobody else changes the map, but not for longer than a second, or ten times as
    long as the counting takes: a node may be cordoned or fall silent meanwhile.
    """

    def __init__(self, ceiling: float = math.inf, *, cold: bool = False, lazy: bool = False) -> None:
        """cold: also during the warm-up, when there are no such nodes for anybody else.

        lazy: chunks that place nothing are likely, so they are only counted after one that did.
        """
        self._ceiling = ceiling
        self._cold = cold
        self._lazy = lazy
        self._wanted = False
        self._revision = -1
        self._good_until = 0.0

    def at(self, revision: int) -> Placement:
        """The nodes under the lock of a store of that revision; what is placed on them raises the revision by one."""
        if revision != self._revision or time.monotonic() > self._good_until:
            self._count()
        self._revision = revision + 1
        self._wanted = True
        return self._placement

    def look(self) -> Placement:
        """The nodes before any lock is taken: the first chunk goes by them if nobody changes the map until then."""
        self._revision = ClusterStore.objects.get().revision
        self._count()
        return self._placement

    def prepare(self) -> None:
        """Count them before the lock is taken, if it must be: `at` does so under the lock only if the map changes between."""
        if self._lazy and not self._wanted:
            return
        self._wanted = False
        if ClusterStore.objects.get().revision != self._revision or time.monotonic() > self._good_until:
            self.look()

    def keep(self) -> None:
        """Nothing was placed on them."""
        self._revision -= 1

    def _count(self) -> None:
        began = time.monotonic()
        cold = not self._cold and Hearing.objects.filter(warmup=True).exists()
        self._placement = Placement(() if cold else None, self._ceiling)
        counted = time.monotonic()
        self._good_until = counted + max(1.0, 10 * (counted - began))


class Choice(NamedTuple):
    """The owner that a config gets, and why: its present one where it stays, None where it runs nowhere."""

    entry: Entry
    to: int | None
    reason: str


class Turn:
    """One transaction that changes the map: what moves, and which nodes need a new version for it."""

    def __init__(self, term: int | None, actor: str) -> None:
        self.store = ClusterStore.objects.lock(term)
        self._actor = actor
        self.moves: list[tuple[Entry, int | None, int | None, str]] = []

    def move(self, entry: Entry, to: int | None, reason: str) -> None:
        """Note that a config's owner becomes `to` (the owner itself: it has other bytes)."""
        self.moves.append((entry, entry.owner, to, reason))
        entry.owner = to
        entry.dangling_since = None

    def place(self, entries: Collection[Entry], placement: Placement, reason: str) -> list[Entry]:
        """Choose a node for each, let the others dangle, and return those placed."""
        if placement.eligibility.needs_origins():
            name_origins(entries)
        placed = []
        for entry in entries:
            node = placement.choose(entry)
            if node is None:
                entry.dangling_since = entry.dangling_since or self.store.now
            else:
                self.move(entry, node, reason)
                placed.append(entry)
        return placed

    def assign(self, entries: Collection[Entry], reason: str) -> None:
        """Write the owners of configs that had none."""
        copy(Assignment, ("config_id", "node_id", "reason"), ((entry.id, entry.owner, reason) for entry in entries))

    def transfer(self, entries: Collection[Entry], reason: str) -> None:
        """Write the new owners of configs that had another."""
        Assignment.objects.transfer([(entry.id, entry.owner) for entry in entries], reason)

    def make(self, choices: Iterable[Choice]) -> None:
        """Write the owners that were chosen, and nothing of configs that stay. What loses its owner dangles, unless paused."""
        moved: dict[tuple[bool, str], list[Entry]] = {}
        lost = []
        for entry, to, reason in choices:
            if to == entry.owner:
                continue
            if to is None:
                lost.append(entry)
            else:
                moved.setdefault((entry.owner is None, reason), []).append(entry)
            self.move(entry, to, reason)
        for (is_new, reason), entries in moved.items():
            (self.assign if is_new else self.transfer)(entries, reason)
            Config.objects.settle([entry.id for entry in entries] if is_new else ())
        Assignment.objects.filter(config_id__in=[entry.id for entry in lost]).delete()
        Config.objects.let_dangle([entry.id for entry in lost if not entry.paused])

    def finish(self) -> list[Move]:
        """Raise versions and revision, write the ledger, and return its new lines."""
        touched = {node for _, source, to, _ in self.moves for node in (source, to) if node is not None}
        names = dict(Node.objects.filter(pk__in=touched).values_list("pk", "name"))
        Node.objects.bump_versions(touched)
        moves = [
            Move(
                config_id=entry.id, digest=entry.digest, name=entry.name, reason=reason, actor=self._actor,
                source_node=names.get(source or 0, ""), to_node=names.get(to or 0, ""), term=self.store.term, time=self.store.now,
                why=entry.why if to is not None else None,
            )
            for entry, source, to, reason in self.moves
        ]  # fmt: skip
        Move.objects.write(moves)
        ClusterStore.objects.update(revision=F("revision") + 1)
        return moves


def relocate(
    entries: Iterable[Entry], placement: Placement, reason: str, *, dangle: bool = False, elsewhere: bool = False
) -> list[Choice]:
    """Choose other nodes for configs than those that have them. What no other may have stays, or with `dangle` runs nowhere.

    elsewhere: also for those that would be best where they are. Configs without an owner are left out.
    """
    owned = [entry for entry in entries if entry.owner is not None]
    if placement.eligibility.needs_origins():
        name_origins(owned)
    found = []
    for entry in owned:
        node = placement.choose(entry, elsewhere=elsewhere, fall_back=reason != Move.Reason.PINNED)
        found.append(Choice(entry, node if node is not None or dangle else entry.owner, reason))
    return found


def sketches(rows: Iterable[tuple[int, str, int | None]], *, with_origins: bool) -> list[Entry]:
    """Configs (id, check, owner) with no more than it takes to say who may run them, for when there are very many."""
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    entries = [Entry(id_, "", name, False, owner=owner, pin=pins.get(id_)) for id_, name, owner in rows]
    if with_origins:
        name_origins(entries)
    return entries


def entries_of(ids: Collection[int]) -> list[Entry]:
    """The configs with these ids as entries, with what is ordered of them."""
    found = changes.entries(ids)
    changes.heed_orders(found)
    return found
