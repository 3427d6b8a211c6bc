"""What one chunk of sent configs changes in the store: worked out on rows in memory, then written in bulk.

Identity is where a config comes from. An origin that sends other bytes changes its config in place, unless another origin
sends that config too (then it parts from it), or another config says just this already (then it joins that one).
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy as copy_of
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, F

from checks.models import Config, Instance, Origin
from checks.models.edits import Edit
from checks.models.map import remove_configs
from checks.models.orders import ORDERS, Isolation, Order, OrderQuerySet, Pause, Pin
from checks.wire import options, patching, readable
from checks.wire.lint import NOTHING_ODD, Linted
from checks.wire.patching import IntegrationConfig, PatchedConfig
from checks.wire.sharding import is_shard, parent_of
from clusteragent.lib.database.bulk import copy, new_ids
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import displayed_name, short_id

ORIGIN_COLUMNS = ("source", "key", "shown", "config_id", "fingerprint", "scanned_by", "written", "written_hash")
CONFIG_COLUMNS = (
    "id", "digest", "name", "provider", "original", "wire", "scrubbed", "text", "node_name", "dangling_since",
    "patched_with", "short_id",
    "fast_digest", "contents",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """A config as an origin sends it, patched. replica: who read it, for sources that each replica reads itself.

    linted: what is odd about the text that it was read from. written: that text. written_hash: see sending.hash_of().
    """

    source: str
    key: str
    original: IntegrationConfig
    patched: PatchedConfig
    replica: str = ""
    linted: Linted = NOTHING_ODD
    written: str = ""
    written_hash: str = ""


@dataclass(slots=True, eq=False)
class Entry:
    """A config while the changes are worked out. owner: node's id. near: the node that it should go to if it can."""

    id: int
    digest: str
    name: str
    endpoint: bool
    origins: int = 0
    owner: int | None = None
    near: int | None = None
    dangling_since: datetime | None = None
    sent: Sent | None = None
    # Workers that it needs, as measured.
    cost: float | None = None
    # What is ordered of it: see heed_orders().
    pin: Pin | None = None
    paused: bool = False
    inherited: list[Order] = field(default_factory=list)
    # The config that its origin shared with others until now.
    parted_from: int = 0
    # What a choice of its node went by: see Move.why.
    why: dict[str, Any] | None = None
    # Its origins as `source:key`, where a rule asks for them.
    sent_as: list[str] = field(default_factory=list)
    # See PatchedConfig.
    fast_digest: str = ""
    contents: str = ""

    @property
    def shown(self) -> str:
        """How people are told which config it is."""
        return f"{scrub(self.name)} {short_id(self.digest)}"

    def say(self, sent: Sent) -> None:
        """Say what this sends."""
        patched = sent.patched
        self.digest, self.fast_digest, self.contents = patched.digest, patched.fast_digest, patched.contents
        self.name, self.endpoint, self.sent = patched.name, bool(patched.node_name), sent

    @property
    def key(self) -> tuple[str, str]:
        """The origin (source, key) that sent what it says now."""
        assert self.sent is not None
        return self.sent.source, self.sent.key


@dataclass(slots=True)
class Changes:
    """What is to be written. Entries in `new` have no id before `write`."""

    new: list[Entry] = field(default_factory=list)
    changed: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    # Those that live on without one of their origins.
    left: list[Entry] = field(default_factory=list)
    new_origins: list[tuple[Sent, Entry]] = field(default_factory=list)
    sent_otherwise: list[tuple[int, Sent, Entry]] = field(default_factory=list)
    # Origins whose authors wrote another text, whether or not it says something else.
    rewritten: list[tuple[int, Sent]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.new or self.changed or self.removed or self.new_origins or self.sent_otherwise or self.rewritten
        )


class Identities:
    """Which configs there are, by what they say, and by the hashes that tell them apart.

    Hashes run over texts that follow one another without a mark, and not over all of a config. So two that say different
    things may have the same; then one gets empty lines before its init_config. Under the store's lock, so that all agree.
    """

    def __init__(self, found: Iterable[Entry]) -> None:
        self._known: set[int] = set()
        self._saying: dict[str, Entry] = {}
        self._hashed: dict[str, set[Entry]] = {}
        for entry in found:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        self._known.add(entry.id)
        self._saying.setdefault(entry.contents, entry)
        for one in (entry.digest, entry.fast_digest):
            self._hashed.setdefault(one, set()).add(entry)

    def discard(self, entry: Entry) -> None:
        """Forget one that is removed, or before it says something else."""
        if self._saying.get(entry.contents) is entry:
            del self._saying[entry.contents]
        for one in (entry.digest, entry.fast_digest):
            self._hashed.get(one, set()).discard(entry)

    def saying(self, sent: Sent) -> Entry | None:
        """The config that says just what is sent."""
        return self._saying.get(sent.patched.contents)

    def apart(self, sent: Sent, mine: Entry | None = None) -> Sent:
        """What is sent, with as many empty lines as it takes to be taken for no other config.

        mine: what it is sent in place of. If that said the same it keeps its lines, else agents must see that it changed.
        """
        one, numbers = sent, _numbers(sent)
        if mine is not None and mine.contents == sent.patched.contents and mine.digest != sent.patched.digest:
            one = _with_lines(sent, _lines(mine))
        while self._is_taken(one, mine):
            one = _with_lines(sent, next(numbers))
            self._load(one)
        return one

    def _is_taken(self, sent: Sent, mine: Entry | None) -> bool:
        """Whether agents, or this program, could take it for another config, or for what it is sent in place of."""
        alike = self._alike(sent)
        if mine is None or mine not in alike:
            return bool(alike)
        is_unseen = mine.contents != sent.patched.contents and mine.fast_digest == sent.patched.fast_digest
        return is_unseen or len(alike) > 1

    def _alike(self, sent: Sent) -> set[Entry]:
        """The configs with one of its hashes."""
        return self._hashed.get(sent.patched.digest, set()) | self._hashed.get(sent.patched.fast_digest, set())

    def _load(self, sent: Sent) -> None:
        """Look for configs that were not asked for at first."""
        for entry in entries((), hashes=(sent.patched.digest, sent.patched.fast_digest)):
            if entry.id not in self._known:
                self.add(entry)


def _with_lines(sent: Sent, number: int) -> Sent:
    if not number:
        return sent
    return replace(sent, patched=patching.patch(sent.original, options.extra_tags(), apart=number))


def _lines(entry: Entry) -> int:
    """How many empty lines a config has."""
    if entry.sent is not None:
        return patching.apart(entry.sent.patched.wire)
    return patching.apart(bytes(Config.objects.values_list("wire", flat=True).get(pk=entry.id)))


def _numbers(sent: Sent) -> Iterator[int]:
    """Numbers of lines to try. Few, and then scattered, so that very many that are alike don't take the lock for long."""
    yield from range(1, 4)
    yield from itertools.count(4 + int(sent.patched.contents[:3], 16))


class Reckoning:
    """Works out the changes, one sent config after the other, so that two in one chunk see each other."""

    def __init__(self, chunk: Sequence[Sent]) -> None:
        self.changes = Changes()
        keys = {(sent.source, sent.key) for sent in chunk}
        columns = Origin.objects.keyed(keys).values_list(
            "pk", "source", "key", "config_id", "fingerprint", "scanned_by", "written_hash", named=True
        )
        self._origins = {(origin.source, origin.key): origin for origin in columns}
        found = entries_like(chunk, {origin.config_id for origin in self._origins.values()})
        self._by_id = {entry.id: entry for entry in found}
        self._identities = Identities(found)
        for sent in chunk:
            self._take(sent)

    def _take(self, sent: Sent) -> None:
        origin = self._origins.get((sent.source, sent.key))
        if origin is None:
            entry = self._identities.saying(sent) or self._new(sent)
            entry.origins += 1
            self.changes.new_origins.append((sent, entry))
            return
        if origin.written_hash != sent.written_hash:
            self.changes.rewritten.append((origin.pk, sent))
        if origin.fingerprint != sent.patched.fingerprint:
            self.changes.sent_otherwise.append((origin.pk, sent, self._follow(self._by_id[origin.config_id], sent)))
        elif origin.scanned_by != sent.replica:
            self.changes.sent_otherwise.append((origin.pk, sent, self._by_id[origin.config_id]))

    def _follow(self, mine: Entry, sent: Sent) -> Entry:
        """The config of an origin that sends other bytes than before."""
        twin = self._identities.saying(sent)
        if twin is not None and twin is not mine:
            self._leave(mine)
            twin.origins += 1
            return twin
        if mine.origins == 1:
            return self._change(mine, sent)
        if twin is mine:
            # The same check in other bytes, which another origin sends as they are: they stay.
            return mine
        self._leave(mine)
        entry = self._new(sent, near=mine.owner)
        entry.parted_from = mine.id
        entry.origins += 1
        return entry

    def _new(self, sent: Sent, near: int | None = None) -> Entry:
        entry = Entry(0, "", "", False, near=near)
        entry.say(self._identities.apart(sent))
        entry.sent_as.append(f"{sent.source}:{sent.key}")
        self.changes.new.append(entry)
        self._identities.add(entry)
        return entry

    def _change(self, entry: Entry, sent: Sent) -> Entry:
        fresh = self._identities.apart(sent, entry)
        self._identities.discard(entry)
        entry.say(fresh)
        self._identities.add(entry)
        self.changes.changed.append(entry)
        return entry

    def _leave(self, entry: Entry) -> None:
        entry.origins -= 1
        if not entry.origins:
            self._identities.discard(entry)
            self.changes.removed.append(entry)
        else:
            self.changes.left.append(entry)


def entries(ids: Iterable[int], contents: Iterable[str] = (), hashes: Iterable[str] = ()) -> list[Entry]:
    """The configs with these ids, contents or hashes, with their owners, in the order of their ids."""
    found = (
        Config.objects.with_ids_or_like(ids, contents, hashes)
        .annotate(sent_by=Count("origins"), owner=F("assignment__node_id"))
        .order_by("id")
    )
    rows = found.values_list(
        "id",
        "digest",
        "name",
        "node_name",
        "sent_by",
        "owner",
        "dangling_since",
        "former_node_id",
        "cost__workers_needed",
        "fast_digest",
        "contents",
        "patched_with",
    )
    named: list[Entry] = []
    unnamed: dict[int, Entry] = {}
    for id_, digest, name, endpoint, sent_by, owner, dangling, former, cost, fast, said, patched_with in rows:
        entry = Entry(
            id_, digest, name, bool(endpoint), sent_by, owner, near=former, dangling_since=dangling, cost=cost
        )
        entry.fast_digest, entry.contents = fast, said
        named.append(entry)
        if not options.notes_identity(patched_with):
            unnamed[id_] = entry
    for id_, bytes_ in Config.objects.filter(pk__in=unnamed).values_list("pk", "wire") if unnamed else ():
        unnamed[id_].fast_digest, unnamed[id_].contents = patching.identity(bytes(bytes_))
    return named


def entries_like(chunk: Collection[Sent], ids: Iterable[int] = ()) -> list[Entry]:
    """The configs with these ids, and those that what is sent may be, or may be taken for."""
    hashes = {one for sent in chunk for one in (sent.patched.digest, sent.patched.fast_digest)}
    return entries(ids, {sent.patched.contents for sent in chunk}, hashes)


def heed_orders(entries: Iterable[Entry]) -> None:
    """Let entries know what is ordered of them; new ones, what was ordered of what their origin sent before."""
    known = {entry.id: entry for entry in entries if entry.id}
    new = [entry for entry in entries if entry.sent and not entry.id]
    # A pause that is over holds until someone resumes what it stopped.
    for orders in (Pin.objects.in_force(), Pause.objects.all(), Isolation.objects.all()):
        for order in orders.of(known):
            _heed(known[order.config_id], order)
        for entry, order in _inherited(orders, new) if new and orders.exists() else ():
            entry.inherited.append(order)
            _heed(entry, order)


def _heed(entry: Entry, order: Order) -> None:
    if isinstance(order, Pin):
        entry.pin = order
    entry.paused |= isinstance(order, Pause)


def _inherited(orders: OrderQuerySet, new: Sequence[Entry]) -> Iterator[tuple[Entry, Order]]:
    """The order for each of these that has one: of its origin, or of what that was cut from or put together of, or parted
    from. Where several wait for an origin the last holds.
    """
    waiting: dict[tuple[str, str], dict[str, Order]] = {}
    for order in orders.waiting_for(entry.key for entry in new).order_by("pk"):
        waiting.setdefault((order.source, parent_of(order.key)), {})[order.key] = order
    shared = {order.config_id: order for order in orders.of({entry.parted_from for entry in new})}
    for entry in new:
        source, key = entry.key
        family = waiting.get((source, parent_of(key)), {})
        nearest = [family[one] for one in (key, parent_of(key)) if one in family]
        if not (nearest or is_shard(key)):
            nearest = [family[one] for one in sorted(family)]
        if order := next(iter(nearest), shared.get(entry.parted_from)):
            yield entry, order


def write(changes: Changes, actor: str) -> None:
    """Write configs, instances and origins. Who runs what is the dispatcher's."""
    for entry, id_ in zip(changes.new, new_ids(Config, len(changes.new)), strict=True):
        entry.id = id_
    Edit.objects.note([entry.id for entry in changes.changed], actor)
    patched_with = options.fingerprint()
    Config.objects.rewrite(CONFIG_COLUMNS, [_row(entry, patched_with) for entry in changes.changed])
    copy(Config, CONFIG_COLUMNS, (_row(entry, patched_with) for entry in changes.new))
    Instance.objects.filter(config_id__in=[entry.id for entry in changes.changed]).delete()
    columns = ("config_id", "check_id", "interval", "shown_name", "short_id")
    copy(Instance, columns, _instance_rows([*changes.changed, *changes.new]))
    copy(
        Origin,
        ORIGIN_COLUMNS,
        (
            (s.source, s.key, scrub(s.key), entry.id, s.patched.fingerprint, s.replica, s.written, s.written_hash)
            for s, entry in changes.new_origins
        ),
    )
    Origin.objects.redirect(
        [(id_, entry.id, s.patched.fingerprint, s.replica) for id_, s, entry in changes.sent_otherwise]
    )
    Origin.objects.rewrite([(id_, sent.written, sent.written_hash) for id_, sent in changes.rewritten])
    remove_configs([entry.id for entry in changes.removed])
    _hand_on([entry for entry in changes.new if entry.inherited])
    settle([entry.id for entry in changes.left])


def _hand_on(heirs: Sequence[Entry]) -> None:
    """Write what new configs inherit. What waited for them, or for what they were cut from or put together of, is over."""
    came = {entry.key for entry in heirs}
    over = came | {(source, parent_of(key)) for source, key in came}
    for model in ORDERS if heirs else ():
        inherited = [(entry, order) for entry in heirs for order in entry.inherited if isinstance(order, model)]
        model.objects.bulk_create([_own(entry, order) for entry, order in inherited])
        waiting = model.objects.waiting_for(came)
        model.objects.filter(
            pk__in=[
                order.pk
                for order in waiting
                if (order.source, order.key) in over or (order.source, parent_of(order.key)) in came
            ]
        ).delete()


def _own(entry: Entry, order: Order) -> Order:
    """The same order, of this config."""
    own = copy_of(order)
    own.pk, own.config_id, (own.source, own.key) = None, entry.id, entry.key
    own._state.adding = True
    return own


def settle(ids: Collection[int]) -> None:
    """These configs live on without some of their origins: let those that are left stand for them."""
    rekey_orders(ids)
    name_sources(ids)


def name_sources(ids: Collection[int], unless: Collection[str] = ()) -> None:
    """Let each config name as its source an origin that sends it. Agents see that with their next change.

    unless: origins that are named only where there is no other.
    """
    senders: dict[int, list[str]] = {}
    origins = Origin.objects.filter(config__in=ids).order_by("source", "key").values_list("config_id", "source", "key")
    for config_id, source, key in origins:
        senders.setdefault(config_id, []).append(f"{source}:{parent_of(key)}")
    meant: dict[int, str] = {}
    for config_id, named in Config.objects.filter(pk__in=senders).values_list("pk", "original__source"):
        sending = [sender for sender in senders[config_id] if sender not in unless] or senders[config_id]
        if named and named not in sending:
            meant[config_id] = sending[0]
    renamed = Config.objects.filter(pk__in=meant).order_by("pk")
    rows = [_sent_by(config, meant[config.pk]) for config in renamed]
    Config.objects.rewrite(("id", "original", "wire", "scrubbed", "text", "provider"), rows)


def _sent_by(config: Config, source: str) -> tuple[Any, ...]:
    provider, shown = source.partition(":")[0], scrub(source)
    return (
        config.pk,
        json.dumps(config.original | {"source": source, "provider": provider}),
        patching.sent_by(bytes(config.wire), source, provider),
        patching.sent_by(bytes(config.scrubbed), shown, provider),
        readable.sent_by(config.text, shown, provider),
        provider,
    )


def rekey_orders(ids: Collection[int]) -> None:
    """These configs live on without some of their origins: what is ordered of them belongs to one that still sends them."""
    for model in ORDERS:
        orders = list(model.objects.of(ids))
        if not orders:
            continue
        keys: dict[int, list[tuple[str, str]]] = {}
        senders = Origin.objects.filter(config__in=[order.config_id for order in orders]).order_by("source", "key")
        for config, source, key in senders.values_list("config_id", "source", "key"):
            keys.setdefault(config, []).append((source, key))
        lost = [one for one in orders if one.config_id in keys and (one.source, one.key) not in keys[one.config_id]]
        for order in lost:
            order.source, order.key = keys[order.config_id or 0][0]
        model.objects.bulk_update(lost, ["source", "key"])


def _row(entry: Entry, patched_with: str) -> tuple[Any, ...]:
    """The columns of CONFIG_COLUMNS."""
    assert entry.sent is not None
    patched = entry.sent.patched
    return (
        entry.id, patched.digest, patched.name, patched.provider, json.dumps(entry.sent.original.to_json()), patched.wire,
        patched.scrubbed, patched.text, patched.node_name, entry.dangling_since, patched_with,
        short_id(patched.digest), patched.fast_digest, patched.contents,
    )  # fmt: skip


def _instance_rows(entries: Iterable[Entry]) -> Iterable[tuple[int, str, float, str, str]]:
    for entry in entries:
        assert entry.sent is not None
        patched = entry.sent.patched
        for check_id, interval in dict(zip(patched.check_ids, patched.intervals, strict=True)).items():
            yield entry.id, check_id, interval, displayed_name(check_id), short_id(check_id)
