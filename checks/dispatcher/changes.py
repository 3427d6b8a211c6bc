"""What one chunk of sent configs changes in the store: computed on rows in memory, then written in bulk.

A config's identity is its origin, not its content. An origin that sends other bytes changes its config in place, with two
exceptions. If another origin sends the old config, too, this origin gets a config of its own. If another config has just
the new content, this origin moves to that config.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy as copy_of
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from django.db.models import Count, F, Q

from checks.models import Config, Instance, Origin
from checks.models.bounds import place_of
from checks.models.edits import Edit
from checks.models.handovers import Handing
from checks.models.map import remove_configs
from checks.models.orders import ORDERS, Isolation, Order, OrderQuerySet, Pause, Pin
from checks.models.titles import called, title
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
    "patched_with", "short_id", "title",
    "fast_digest", "contents",
)  # fmt: skip

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sent:
    """A config as an origin (source, key) sends it, and patched.

    replica: which replica read it, for sources that each replica reads itself. written: the text that it was read from.
    linted: what the linter found in that text. written_hash: see `origins.hash_of`.
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
    """A config while changes or choices are computed. owner: id of the node that has it. near: id of the node that it prefers."""

    id: int
    digest: str
    name: str
    endpoint: bool
    origins: int = 0
    owner: int | None = None
    near: int | None = None
    dangling_since: datetime | None = None
    # The hand-over that it is in, and whether its owner has acknowledged it since that began.
    handing: Handing | None = None
    is_acknowledged: bool = False
    sent: Sent | None = None
    # How many workers it keeps busy, as measured; None when it was not.
    cost: float | None = None
    # What people ordered of it: see attach_orders().
    pin: Pin | None = None
    paused: bool = False
    inherited: list[Order] = field(default_factory=list)
    # The id of the config that its origin shared with others until now.
    parted_from: int = 0
    # What the choice of its node was based on: see Move.why.
    why: dict[str, Any] | None = None
    # The rule that took it from its owner: see Move.why.
    forbidden_by: str = ""
    # Its origins as `source:key`, if a rule is about origins: see Snapshot.read_origins().
    sent_as: list[str] = field(default_factory=list)
    # See PatchedConfig.
    fast_digest: str = ""
    contents: str = ""
    # How people call it, as it is stored: empty if nothing names it.
    title: str = ""

    @property
    def shown(self) -> str:
        """The config as people see it."""
        return called(self.title, self.name, self.digest)

    @property
    def served_to(self) -> set[int]:
        """The ids of the nodes that get it with their configs: its owner, and what its hand-over makes of that."""
        owner = set() if self.owner is None else {self.owner}
        if self.handing is None:
            return owner
        return set() if self.handing.is_strict else owner | self.handing.runners

    def set_content(self, sent: Sent) -> None:
        """Give the entry the content, name and hashes of what was sent."""
        patched = sent.patched
        self.digest, self.fast_digest, self.contents = patched.digest, patched.fast_digest, patched.contents
        self.name, self.endpoint, self.sent = patched.name, bool(patched.node_name), sent
        self.title = title(patched.name, patched.calls, patched.source)

    @property
    def key(self) -> tuple[str, str]:
        """The origin (source, key) that sent its present content."""
        assert self.sent is not None
        return self.sent.source, self.sent.key


@dataclass(slots=True)
class Changes:
    """What is to be written. Entries in `new` have the id 0 before `write`."""

    new: list[Entry] = field(default_factory=list)
    changed: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    # Configs that lost an origin and have others.
    lost_origin: list[Entry] = field(default_factory=list)
    new_origins: list[tuple[Sent, Entry]] = field(default_factory=list)
    changed_origins: list[tuple[int, Sent, Entry]] = field(default_factory=list)
    # Origins that came to a config that is there, or that another origin of the chunk brought.
    joined: list[tuple[Sent, Entry]] = field(default_factory=list)
    # Origins that got another text, even if it means the same.
    rewritten: list[tuple[int, Sent]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.new or self.changed or self.removed or self.new_origins or self.changed_origins or self.rewritten
        )


class Identities:
    """The configs by their contents, and by the hashes that agents and this program tell them apart by.

    A hash covers texts that follow one another without a separator, and not all of a config. So two configs with different
    contents may have the same hash; then one of them gets empty lines before its init_config. Use it under the store's lock,
    so that all processes make the same choice.
    """

    def __init__(self, found: Iterable[Entry]) -> None:
        self._known: set[int] = set()
        self._by_contents: dict[str, Entry] = {}
        self._by_hash: dict[str, set[Entry]] = {}
        for entry in found:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add a config with its present content and hashes."""
        self._known.add(entry.id)
        self._by_contents.setdefault(entry.contents, entry)
        for one in (entry.digest, entry.fast_digest):
            self._by_hash.setdefault(one, set()).add(entry)

    def discard(self, entry: Entry) -> None:
        """Remove a config; call it before its content changes, too."""
        if self._by_contents.get(entry.contents) is entry:
            del self._by_contents[entry.contents]
        for one in (entry.digest, entry.fast_digest):
            self._by_hash.get(one, set()).discard(entry)

    def find_same(self, sent: Sent) -> Entry | None:
        """Return the config with just the content that is sent, or None."""
        return self._by_contents.get(sent.patched.contents)

    def distinct(self, sent: Sent, mine: Entry | None = None) -> Sent:
        """Return what is sent, with as many empty lines as it needs to have the hash of no other config.

        mine: the config that it replaces. If the content is the same, it keeps that config's empty lines. Otherwise its hash
        must differ from that config's, too, so that agents see the change.
        """
        one = sent
        if mine is not None and mine.contents == sent.patched.contents and mine.digest != sent.patched.digest:
            stored = Config.objects.filter(pk=mine.id).values_list("wire", flat=True)
            wire = mine.sent.patched.wire if mine.sent else bytes(stored.get())
            one = _with_lines(sent, patching.apart(wire))
        # First 1 to 3 lines, then from a number that depends on the content. Otherwise very many similar configs would try the
        # same numbers one after the other, and hold the lock for long.
        numbers = itertools.chain(range(1, 4), itertools.count(4 + int(sent.patched.contents[:3], 16)))
        while self._is_taken(one, mine):
            one = _with_lines(sent, next(numbers))
            # The first query did not ask for the configs with its new hashes.
            for entry in entries((), hashes=(one.patched.digest, one.patched.fast_digest)):
                if entry.id not in self._known:
                    self.add(entry)
        return one

    def _is_taken(self, sent: Sent, mine: Entry | None) -> bool:
        """Whether it has a hash of another config, or a hash of the one that it replaces although its content differs."""
        hashes = sent.patched.digest, sent.patched.fast_digest
        alike = set[Entry]().union(*(self._by_hash.get(one, ()) for one in hashes))
        if mine is None or mine not in alike:
            return bool(alike)
        is_unseen = mine.contents != sent.patched.contents and mine.fast_digest == sent.patched.fast_digest
        return is_unseen or len(alike) > 1


def _with_lines(sent: Sent, number: int) -> Sent:
    if not number:
        return sent
    return replace(sent, patched=patching.patch(sent.original, options.extra_tags(), apart=number))


class ChangeBuilder:
    """Computes the changes that a chunk of sent configs makes: one after the other, so that two in one chunk see each other.

    apart: as if no others gave any of them already. Nothing is stored by such changes.
    """

    def __init__(self, chunk: Sequence[Sent], *, apart: bool = False) -> None:
        self.changes = Changes()
        keys = {(sent.source, sent.key) for sent in chunk}
        columns = Origin.objects.keyed(keys).values_list(
            "pk", "source", "key", "config_id", "fingerprint", "scanned_by", "written_hash", named=True
        )
        self._origins = {(origin.source, origin.key): origin for origin in columns}
        ids = {origin.config_id for origin in self._origins.values()}
        found = entries(ids) if apart else entries_like(chunk, ids)
        self._by_id = {entry.id: entry for entry in found}
        self._identities = Identities(found)
        for sent in chunk:
            self._take(sent)

    def _take(self, sent: Sent) -> None:
        origin = self._origins.get((sent.source, sent.key))
        if origin is None:
            twin = self._identities.find_same(sent)
            entry = self._new(sent) if twin is None else self._join(sent, twin)
            entry.origins += 1
            self.changes.new_origins.append((sent, entry))
            return
        if origin.written_hash != sent.written_hash:
            self.changes.rewritten.append((origin.pk, sent))
        if origin.fingerprint != sent.patched.fingerprint:
            self.changes.changed_origins.append((origin.pk, sent, self._follow(self._by_id[origin.config_id], sent)))
        elif origin.scanned_by != sent.replica:
            self.changes.changed_origins.append((origin.pk, sent, self._by_id[origin.config_id]))

    def _follow(self, mine: Entry, sent: Sent) -> Entry:
        """The config of an origin that sends other bytes than before: the same one changed, another one, or a new one."""
        twin = self._identities.find_same(sent)
        if twin is not None and twin is not mine:
            self._leave(mine)
            twin.origins += 1
            return self._join(sent, twin)
        if mine.origins == 1:
            fresh = self._identities.distinct(sent, mine)
            self._identities.discard(mine)
            mine.set_content(fresh)
            self._identities.add(mine)
            self.changes.changed.append(mine)
            return mine
        if twin is mine:
            # The same content in other bytes. Another origin still sends the present bytes, so these stay.
            return mine
        self._leave(mine)
        entry = self._new(sent, near=mine.owner)
        entry.parted_from = mine.id
        entry.origins += 1
        return entry

    def _join(self, sent: Sent, twin: Entry) -> Entry:
        self.changes.joined.append((sent, twin))
        return twin

    def _new(self, sent: Sent, near: int | None = None) -> Entry:
        entry = Entry(0, "", "", False, near=near)
        entry.set_content(self._identities.distinct(sent))
        entry.sent_as.append(f"{sent.source}:{sent.key}")
        self.changes.new.append(entry)
        self._identities.add(entry)
        return entry

    def _leave(self, entry: Entry) -> None:
        entry.origins -= 1
        if not entry.origins:
            self._identities.discard(entry)
            self.changes.removed.append(entry)
        else:
            self.changes.lost_origin.append(entry)


def entries(ids: Iterable[int], contents: Iterable[str] = (), hashes: Iterable[str] = ()) -> list[Entry]:
    """Read the configs with these ids, contents or hashes, with owner, cost and number of origins, in the order of their ids."""
    node = "assignment__node"
    acknowledged = Q((f"{node}__heartbeat__acknowledged__range", (F("handover__given"), F(f"{node}__config_version"))))
    found = (
        Config.objects.with_ids_or_like(ids, contents, hashes)
        .annotate(sent_by=Count("origins"), owner=F("assignment__node_id"), is_acknowledged=acknowledged)
        .order_by("id")
    )
    rows = found.values_list(
        "id", "digest", "name", "node_name", "sent_by", "owner", "dangling_since", "former_node_id",
        "cost__workers_needed", "title", "fast_digest", "contents", "patched_with", "handover__source_id", "handover__promise",
        "handover__between_id", "is_acknowledged",
    )  # fmt: skip
    named: list[Entry] = []
    unnamed: dict[int, Entry] = {}
    for id_, digest, name, endpoint, sent_by, owner, dangling, former, cost, known_as, *rest in rows:
        entry = Entry(id_, digest, name, bool(endpoint), sent_by, owner, former, dangling, cost=cost, title=known_as)
        entry.fast_digest, entry.contents, patched_with, source, promise, between, is_acknowledged = rest
        entry.handing = Handing(source, promise, between) if promise else None
        entry.is_acknowledged = bool(is_acknowledged)
        named.append(entry)
        if not options.notes_identity(patched_with):
            unnamed[id_] = entry
    for id_, bytes_ in Config.objects.filter(pk__in=unnamed).values_list("pk", "wire") if unnamed else ():
        unnamed[id_].fast_digest, unnamed[id_].contents = patching.identity(bytes(bytes_))
    return named


def entries_like(chunk: Collection[Sent], ids: Iterable[int] = ()) -> list[Entry]:
    """Read the configs with these ids, and those with the contents or hashes of what is sent."""
    hashes = {one for sent in chunk for one in (sent.patched.digest, sent.patched.fast_digest)}
    return entries(ids, {sent.patched.contents for sent in chunk}, hashes)


def read_origins(entries: Iterable[Entry]) -> None:
    """Set `sent_as` of existing configs, where it is not known yet."""
    by_id = {entry.id: entry for entry in entries if entry.id and not entry.sent_as}
    for config_id, source, key in Origin.objects.filter(config_id__in=by_id).values_list("config_id", "source", "key"):
        by_id[config_id].sent_as.append(f"{source}:{key}")


def attach_orders(entries: Iterable[Entry]) -> None:
    """Set `pin` and `paused` on each entry. A new entry inherits the orders that wait for its origin."""
    known = {entry.id: entry for entry in entries if entry.id}
    new = [entry for entry in entries if entry.sent and not entry.id]
    # A pause whose time is over holds until a pass resumes its config.
    for orders in (Pin.objects.in_force(), Pause.objects.all(), Isolation.objects.all()):
        for order in orders.of(known):
            _attach(known[order.config_id], order)
        for entry, order in _inherited(orders, new) if new and orders.exists() else ():
            entry.inherited.append(order)
            _attach(entry, order)


def _attach(entry: Entry, order: Order) -> None:
    if isinstance(order, Pin):
        entry.pin = order
    entry.paused |= isinstance(order, Pause)


def _inherited(orders: OrderQuerySet, new: Sequence[Entry]) -> Iterator[tuple[Entry, Order]]:
    """The order that each of these new entries inherits, if any.

    It is the order that waits for its origin; or for the config that it is a shard of, or whose shards it replaces; or the
    order of the config that its origin shared until now, unless it is the order of another object. If several wait for one
    origin, the last one holds.
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
        order = next(iter(nearest), shared.get(entry.parted_from))
        if order and (not order.from_source or (order.source, parent_of(order.key)) == (source, parent_of(key))):
            yield entry, order


def write(changes: Changes, actor: str) -> None:
    """Write configs, instances, origins and inherited orders, and give new entries their ids; but no assignments."""
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
        [(id_, entry.id, s.patched.fingerprint, s.replica) for id_, s, entry in changes.changed_origins]
    )
    Origin.objects.rewrite([(id_, sent.written, sent.written_hash) for id_, sent in changes.rewritten])
    remove_configs([entry.id for entry in changes.removed])
    _write_inherited([entry for entry in changes.new if entry.inherited])
    _end_bounded(changes.joined)
    use_remaining_origins([entry.id for entry in changes.lost_origin])


def _write_inherited(heirs: Sequence[Entry]) -> None:
    """Write the orders that new configs inherit, and delete those that waited for their origins, their whole or their shards."""
    came = {entry.key for entry in heirs}
    over = came | {(source, parent_of(key)) for source, key in came}
    for model in ORDERS if heirs else ():
        inherited = [(entry, order) for entry in heirs for order in entry.inherited if isinstance(order, model)]
        copies = []
        for entry, order in inherited:
            own = copy_of(order)
            own.pk, own.config_id, (own.source, own.key) = None, entry.id, entry.key
            own._state.adding = True
            copies.append(own)
        model.objects.bulk_create(copies)
        waiting = model.objects.waiting_for(came)
        model.objects.filter(
            pk__in=[
                order.pk
                for order in waiting
                if (order.source, order.key) in over or (order.source, parent_of(order.key)) in came
            ]
        ).delete()


def _end_bounded(joined: Iterable[tuple[Sent, Entry]]) -> None:
    """End orders of somebody who is bound to some checks, for configs that another source, or namespace, sends from now on, too.

    Otherwise who also writes a source could stop what others are about to send: by sending it first.
    """
    places: dict[int, set[str]] = {}
    for sent, entry in joined:
        places.setdefault(entry.id, set()).add(place_of(sent.source, sent.key))
    for model in ORDERS if places else ():
        for order in model.objects.of(places).filter(bounded=True):
            if others := places[order.config_id] - {place_of(order.source, order.key)}:
                model.objects.filter(pk=order.pk).end()
                kind = model._meta.model_name
                log.warning(
                    "order_ended", order=kind, author=order.author, config=order.config_id, joined_by=sorted(others)
                )


def use_remaining_origins(ids: Collection[int]) -> None:
    """Let orders and source of configs that lost an origin name an origin that they still have."""
    rekey_orders(ids)
    name_sources(ids)


def name_sources(ids: Collection[int], unless: Collection[str] = ()) -> None:
    """Let each config name as its source an origin that sends it: the first by source and key, if it names none of them.

    unless: origins as `source:key` that are named only if a config has no other. Versions of nodes are not raised: agents
    see the new source with their next change.
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
    rows = []
    for config in renamed:
        source = meant[config.pk]
        provider, shown = source.partition(":")[0], scrub(source)
        original = json.dumps(config.original | {"source": source, "provider": provider})
        wire = patching.sent_by(bytes(config.wire), source, provider)
        scrubbed = patching.sent_by(bytes(config.scrubbed), shown, provider)
        text = readable.sent_by(config.text, shown, provider)
        named = title(config.name, patching.calls(scrubbed), source)
        rows.append((config.pk, original, wire, scrubbed, text, provider, named))
    Config.objects.rewrite(("id", "original", "wire", "scrubbed", "text", "provider", "title"), rows)


def rekey_orders(ids: Collection[int]) -> None:
    """Move people's orders of these configs from former origins to the first origin that still sends the config."""
    for model in ORDERS:
        orders = list(model.objects.of(ids).filter(from_source=False))
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
        short_id(patched.digest), entry.title, patched.fast_digest, patched.contents,
    )  # fmt: skip


def _instance_rows(entries: Iterable[Entry]) -> Iterable[tuple[int, str, float, str, str]]:
    for entry in entries:
        assert entry.sent is not None
        patched = entry.sent.patched
        for check_id, interval in dict(zip(patched.check_ids, patched.intervals, strict=True)).items():
            yield entry.id, check_id, interval, displayed_name(check_id), short_id(check_id)
