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

from checks.dispatcher import changes
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, look
from checks.models import Assignment, ClusterStore, Config, Move
from checks.models.orders import Pin
from clusteragent.lib.database.bulk import copy
from nodes.models import Node

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

    def at(self, revision: int) -> Snapshot:
        """The nodes under the lock of a store of that revision; what is placed on them raises the revision by one."""
        if revision != self._revision or time.monotonic() > self._good_until:
            self._count()
        self._revision = revision + 1
        self._wanted = True
        return self._snapshot

    def look(self) -> Snapshot:
        """The nodes before any lock is taken: the first chunk goes by them if nobody changes the map until then."""
        self._revision = ClusterStore.objects.get().revision
        self._count()
        return self._snapshot

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
        self._snapshot = look(ceiling=self._ceiling, cold=self._cold)
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

    def place(self, entries: Collection[Entry], snapshot: Snapshot, reason: str) -> list[Entry]:
        """Choose a node for each, let the others dangle, and return those placed."""
        snapshot.read_origins(entries)
        placed = []
        for entry in entries:
            node = snapshot.choose(entry)
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
    entries: Iterable[Entry], snapshot: Snapshot, reason: str, *, dangle: bool = False, elsewhere: bool = False
) -> list[Choice]:
    """Choose other nodes for configs than those that have them. What no other may have stays, or with `dangle` runs nowhere.

    elsewhere: also for those that would be best where they are. Configs without an owner are left out.
    """
    owned = [entry for entry in entries if entry.owner is not None]
    snapshot.read_origins(owned)
    found = []
    for entry in owned:
        node = snapshot.choose(entry, elsewhere=elsewhere, fall_back=reason != Move.Reason.PINNED)
        found.append(Choice(entry, node if node is not None or dangle else entry.owner, reason))
    return found


def sketches(rows: Iterable[tuple[int, str, int | None]], snapshot: Snapshot) -> list[Entry]:
    """Configs (id, check, owner) with no more than it takes to say who may run them, for when there are very many."""
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    entries = [Entry(id_, "", name, False, owner=owner, pin=pins.get(id_)) for id_, name, owner in rows]
    snapshot.read_origins(entries)
    return entries


def entries_of(ids: Collection[int]) -> list[Entry]:
    """The configs with these ids as entries, with what is ordered of them."""
    found = changes.entries(ids)
    changes.heed_orders(found)
    return found
