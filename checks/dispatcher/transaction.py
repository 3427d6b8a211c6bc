"""The parts of every verb: chunks, the transaction that writes the map, and the snapshot of nodes for its choices."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import F

from checks.dispatcher import changes, handover
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.models import Assignment, ClusterStore, Config, Cost, Handover, Move
from checks.models.handovers import Begun, Handing, Promise
from checks.models.orders import Pin
from clusteragent.lib.database import rehearsal
from clusteragent.lib.database.bulk import copy
from clusteragent.lib.traces import span
from nodes.models import Node

T = TypeVar("T")
P = ParamSpec("P")

CHUNK = 1000
# After a step that took longer than LONG seconds the next one gets half as many items, but at least FEWEST.
LONG, FEWEST = 0.25, 100

_is_single: ContextVar[bool] = ContextVar("single_transaction", default=False)


def own_transaction(step: Callable[P, T]) -> Callable[P, T]:
    """Decorate a step of a verb: it runs in a transaction of its own, which is committed when it returns.

    Raises RuntimeError inside of another transaction, which would hold the store's lock until its last step. Inside
    `single_transaction`, and in a rehearsal, it is a part of that one.
    """

    @wraps(step)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with span("transaction", step=step.__name__.strip("_")), _outermost():
            return step(*args, **kwargs)

    return wrapper


@contextmanager
def single_transaction() -> Iterator[None]:
    """Run several verbs in one transaction, so that nobody sees a part of them. A verb of more than CHUNK raises RuntimeError."""
    with _outermost():
        token = _is_single.set(True)
        try:
            yield
        finally:
            _is_single.reset(token)


def _outermost() -> transaction.Atomic:
    if _is_single.get():
        return transaction.atomic()
    rehearsal.require_short()
    return rehearsal.outermost()


def in_chunks(
    items: Sequence[T], verb: Callable[[Sequence[T]], list[Move]], cache: "SnapshotCache | None" = None
) -> list[Move]:
    """Call `verb` for chunks of at most CHUNK items, and return the moves of all. It is not atomic.

    An exception after the first chunk gets a note that says how many items are done. After a slow chunk the next ones are
    smaller, so that others don't wait longer for the lock on a busy machine. cache: is refreshed before a chunk takes the
    lock, if it is out of date.
    """
    if _is_single.get() and len(items) > CHUNK:
        raise RuntimeError(f"{len(items)} are too many to be changed in one transaction")
    moves: list[Move] = []
    start, size = 0, CHUNK
    while start < len(items):
        if cache is not None:
            cache.prepare()
        began = time.monotonic()
        try:
            moves += verb(items[start : start + size])
        except Exception as error:
            if start:
                error.add_note(f"the first {start} of {len(items)} are done")
            raise
        start += size
        seconds = time.monotonic() - began
        if seconds > LONG:
            size = max(size // 2, min(FEWEST, CHUNK))
        elif seconds < LONG / 3:
            size = min(size * 2, CHUNK)
    return moves


def described(error: Exception) -> str:
    """Return an error of a verb as one line: its message, and its notes of what was done before it."""
    return "; ".join([" ".join(str(error).split()), *getattr(error, "__notes__", ())])


class SnapshotCache:
    """The snapshot of the nodes for the chunks of one verb.

    Reading it for each chunk would take longer than placing the chunk. So it is kept while nobody else changes the map, but
    for at most a second, or ten times as long as reading it takes: a node may be cordoned or fall silent meanwhile.
    """

    def __init__(self, ceiling: float = math.inf, *, cold: bool = False, lazy: bool = False) -> None:
        """ceiling, cold: see `read_snapshot`.

        lazy: most chunks place nothing, so `prepare` reads the snapshot only if the chunk before needed it.
        """
        self._ceiling = ceiling
        self._cold = cold
        self._lazy = lazy
        self._wanted = False
        self._revision = -1
        self._valid_until = 0.0

    def at(self, revision: int) -> Snapshot:
        """Return the snapshot for a transaction that has locked the store at this revision, and will raise it by one."""
        if revision != self._revision or time.monotonic() > self._valid_until:
            self._read()
        self._revision = revision + 1
        self._wanted = True
        return self._snapshot

    def read(self) -> Snapshot:
        """Read the snapshot before any lock is taken. The first chunk uses it, too, unless the map changes before."""
        self._revision = ClusterStore.objects.get().revision
        self._read()
        return self._snapshot

    def prepare(self) -> None:
        """Read the snapshot again if it is out of date. Call before taking the lock, so that `at` seldom reads under it."""
        if self._lazy and not self._wanted:
            return
        self._wanted = False
        if ClusterStore.objects.get().revision != self._revision or time.monotonic() > self._valid_until:
            self.read()

    def keep(self) -> None:
        """Call when the transaction changed nothing: the snapshot stays valid for the same revision."""
        self._revision -= 1

    def _read(self) -> None:
        began = time.monotonic()
        with span("read") as reading:
            self._snapshot = read_snapshot(ceiling=self._ceiling, cold=self._cold)
            self._snapshot.prefetch()
            reading.set_attributes({"nodes": len(self._snapshot.by_id)})
        finished = time.monotonic()
        self._valid_until = finished + max(1.0, 10 * (finished - began))


class Choice(NamedTuple):
    """The owner that a config gets, a node's id: its present one if it stays, None if it runs nowhere. reason: a Move.Reason."""

    entry: Entry
    to: int | None
    reason: str


class MapWriter:
    """Writes the map in the current transaction: owners, the ledger, and the versions of nodes.

    Creating it locks the store, and raises NotLeader when `term` is over.
    """

    def __init__(self, term: int | None, actor: str, plan: int | None = None) -> None:
        """plan: the number of the plan that this is of, if it is stored."""
        self._plan = plan
        with span("lock"):
            self.store = ClusterStore.objects.lock(term)
        self._is_leaders = term is not None
        self._actor = actor
        # Each with what its hand-over promises.
        self.moves: list[tuple[Entry, int | None, int | None, str, str]] = []
        # The nodes whose configs change, and the entries whose hand-overs do, each with what they were.
        self._touched: set[int] = set()
        self._handed: dict[int, tuple[Entry, int | None, Handing | None]] = {}
        # The configs whose new owner has them for sure.
        self._arrived: set[int] = set()

    def move(self, entry: Entry, to: int | None, reason: str, promise: str = Promise.AT_ONCE) -> None:
        """Note a move for the ledger, and set the entry's owner. `to` is the owner itself if only the config's bytes changed.

        promise: how the config is handed over.
        """
        served, owner, handing = entry.served_to, entry.owner, entry.handing
        entry.handing = handover.after(entry, to, promise, reason)
        self.moves.append((entry, owner, to, reason, entry.handing.promise if entry.handing and to != owner else ""))
        if handing and not handing.is_strict and entry.is_acknowledged and to != owner:
            self._arrived.add(entry.id)
        entry.is_acknowledged = entry.is_acknowledged and to == owner
        entry.owner = to
        entry.dangling_since = None
        self._touched |= entry.served_to if to == owner else served ^ entry.served_to
        if handing or entry.handing:
            self._handed.setdefault(entry.id, (entry, owner, handing))

    def hand(self, entry: Entry, handing: Handing | None, *, is_done: bool = False) -> None:
        """Change what is left to wait for of a config; None: its owner has it, and nobody else. is_done: as was promised."""
        served = entry.served_to
        self._handed.setdefault(entry.id, (entry, entry.owner, entry.handing))
        if is_done:
            self._arrived.add(entry.id)
        entry.handing = handing
        self._touched |= served ^ entry.served_to

    def note(self, entry: Entry, reason: str) -> None:
        """Note something in the ledger that leaves the config on its node."""
        self.moves.append((entry, entry.owner, entry.owner, reason, ""))

    def place(self, entries: Collection[Entry], snapshot: Snapshot, reason: str) -> list[Entry]:
        """Choose a node for each entry, and return those that have one. The others dangle. Writes nothing yet."""
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
        """Insert the assignments of configs that had no owner."""
        copy(Assignment, ("config_id", "node_id", "reason"), ((entry.id, entry.owner, reason) for entry in entries))

    def transfer(self, entries: Collection[Entry], reason: str) -> None:
        """Update the assignments of configs that had another owner."""
        Assignment.objects.transfer([(entry.id, entry.owner) for entry in entries], reason)

    def apply(self, choices: Iterable[Choice]) -> None:
        """Write the chosen owners. Configs that stay are left out. A config that loses its owner dangles, unless it is paused."""
        moved: dict[tuple[bool, str], list[Entry]] = {}
        lost = []
        moving = [choice for choice in choices if choice.to != choice.entry.owner]
        promises = handover.promises(
            [one.entry for one in moving if one.entry.owner and one.reason in handover.PLANNED]
        )
        for entry, to, reason in moving:
            if to is None:
                lost.append(entry)
            else:
                moved.setdefault((entry.owner is None, reason), []).append(entry)
            self.move(entry, to, reason, promises.get(entry.id, Promise.AT_ONCE))
        for (is_new, reason), entries in moved.items():
            (self.assign if is_new else self.transfer)(entries, reason)
            Config.objects.settle([entry.id for entry in entries] if is_new else ())
        Assignment.objects.filter(config_id__in=[entry.id for entry in lost]).delete()
        Config.objects.let_dangle([entry.id for entry in lost if not entry.paused])

    def finish(self) -> list[Move]:
        """Raise the versions of nodes and the store's revision, write the moves to the ledger, and return them."""
        concerned = {node for _, source, to, _, _ in self.moves for node in (source, to) if node is not None}
        # An owner whose configs stay the same acknowledges that it has them by its present version.
        concerned |= {entry.owner for entry, _, _ in self._handed.values() if entry.owner is not None}
        nodes = list(Node.objects.filter(pk__in=concerned).values_list("pk", "name", "config_version"))
        names = {pk: name for pk, name, _ in nodes}
        self._hand_over({pk: version for pk, _, version in nodes} | Node.objects.bump_versions(self._touched))
        moves = [
            Move(
                config_id=entry.id, digest=entry.digest, name=entry.name, reason=reason, actor=self._actor,
                source_node=names.get(source or 0, ""), to_node=names.get(to or 0, ""), term=self.store.term, time=self.store.now,
                why=_why(entry, to), title=entry.title, promise=promise,
                plan=self._plan,
            )
            for entry, source, to, reason, promise in self.moves
        ]  # fmt: skip
        with span("write", moves=len(moves)):
            if self._arrived:
                # Before the moves of now, each of which may be its config's last.
                Move.objects.hand(self._arrived, self.store.now)
            Move.objects.write(moves)
            ClusterStore.objects.update(revision=F("revision") + 1, steps=F("steps") + int(self._is_leaders))
        return moves

    def _hand_over(self, versions: Mapping[int, int]) -> None:
        """Store the hand-overs that began or go on with another owner, and delete those that ended. versions: see Begun."""
        begun, ended = [], []
        for entry, owner, handing in self._handed.values():
            if entry.handing is None:
                ended.append(entry.id)
            elif entry.handing != handing or (entry.owner != owner and entry.owner is not None):
                waits_for = entry.handing.source if entry.handing.is_strict else entry.owner
                begun.append(Begun(entry.id, entry.handing, versions.get(waits_for or 0, 0)))
        Handover.objects.begin(begun)
        if ended:
            Handover.objects.filter(config_id__in=ended).delete()


def _why(entry: Entry, to: int | None) -> dict[str, Any] | None:
    """What a move of the config is based on: see Move.why."""
    chosen = (entry.why if to is not None else None) or {}
    return chosen | ({"forbidden_by": entry.forbidden_by} if entry.forbidden_by else {}) or None


def relocate(
    entries: Iterable[Entry], snapshot: Snapshot, reason: str, *, dangle: bool = False, elsewhere: bool = False
) -> list[Choice]:
    """Choose nodes anew for configs that have an owner, and return a choice for each. Configs without an owner are left out.

    elsewhere: never choose the present owner. dangle: a config that no node can have loses its owner; else it stays.
    """
    owned = [entry for entry in entries if entry.owner is not None]
    snapshot.read_origins(owned)
    found = []
    for entry in owned:
        node = snapshot.choose(entry, elsewhere=elsewhere, fall_back=reason != Move.Reason.PINNED)
        found.append(Choice(entry, node if node is not None or dangle else entry.owner, reason))
    return found


def move_in_chunks(
    ids: Sequence[int],
    choose: Callable[[list[Entry], Snapshot], Iterable[Choice]],
    cache: SnapshotCache,
    term: int | None,
) -> list[Move]:
    """Move configs as `choose` chooses for each chunk under the lock, and return the moves. It is not atomic."""

    @own_transaction
    def step(chunk: Sequence[int]) -> list[Move]:
        writer = MapWriter(term, "")
        snapshot = cache.at(writer.store.revision)
        writer.apply(choose(entries_of(chunk), snapshot))
        if writer.moves:
            return writer.finish()
        # The revision stays: each pass tries again, and must not make plans stale.
        cache.keep()
        return []

    return in_chunks(ids, step, cache)


def light_entries(rows: Iterable[tuple[int, str, int | None]], snapshot: Snapshot) -> list[Entry]:
    """Turn rows of (id, check, owner's id) into entries with just what eligibility needs. For very many configs."""
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    # Only what is to be together with others moves by what it costs.
    costs = Cost.objects.expected() if snapshot.joins else {}
    entries = [
        Entry(id_, "", name, False, owner=owner, pin=pins.get(id_), cost=costs.get(id_)) for id_, name, owner in rows
    ]
    snapshot.read_origins(entries)
    return entries


def entries_of(ids: Collection[int]) -> list[Entry]:
    """Read the configs with these ids, with their orders."""
    found = changes.entries(ids)
    changes.attach_orders(found)
    return found
