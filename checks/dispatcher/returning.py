"""Lost nodes that report again before others have fetched what they were given in their place: these configs go back."""

from collections.abc import Collection, Sequence

from django.db.models import Exists, OuterRef, Q

from checks.dispatcher import handover
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot
from checks.dispatcher.transaction import Choice, MapWriter, SnapshotCache, entries_of, in_chunks, own_transaction
from checks.models import Assignment, Config, Move
from checks.models.handovers import Promise
from clusteragent.lib import conf
from clusteragent.lib.clock import ago


def give_back(term: int | None, actor: str) -> list[Move]:
    """Hand configs over to their former nodes that report again, and return the moves. More than CHUNK are not atomic.

    What stays: what the new node has acknowledged, what was moved since or is being handed over, what its former node may not
    have now, and what no two nodes may run. Its former node is forgotten then.
    """
    cache = SnapshotCache(lazy=True)

    @own_transaction
    def step(chunk: Sequence[int]) -> list[Move]:
        writer = MapWriter(term, actor)
        due = _due(chunk)
        entries = [entry for entry in entries_of([pk for pk, returns in due.items() if returns]) if not entry.handing]
        choices = _choices(entries, cache.at(writer.store.revision)) if entries else []
        if entries and not choices:
            cache.keep()
        writer.apply(choices)
        Config.objects.settle(due)
        return writer.finish() if choices else []

    return in_chunks(sorted(_due()), step, cache)


def going_back(snapshot: Snapshot, most: int) -> list[tuple[Entry, int]]:
    """Return the first configs that `give_back` would move, each with the id of its former node; at most `most` are looked at."""
    ids = sorted(pk for pk, returns in _due().items() if returns)[:most]
    entries = [entry for entry in entries_of(ids) if not entry.handing] if ids else []
    return [(entry, to) for entry, to, _ in _choices(entries, snapshot) if to is not None]


def _choices(entries: Sequence[Entry], snapshot: Snapshot) -> list[Choice]:
    """A choice for each of these configs that may go back to its former node."""
    promises = handover.promises(entries)
    snapshot.read_origins(entries)
    found = []
    for entry in entries:
        node = snapshot.by_id.get(entry.near or 0)
        if node and promises[entry.id] != Promise.STRICT and not snapshot.refusal(entry, node):
            snapshot.give_up(entry)
            snapshot.take(entry, node.id)
            found.append(Choice(entry, node.id, Move.Reason.RETURNED))
    return found


def _due(ids: Collection[int] | None = None) -> dict[int, bool]:
    """The configs (of these) that others were given in place of a lost node, and that need not wait for it any more.

    {config's id: whether it goes back, since that node reports again and the new one has not acknowledged it}.
    """
    given = Assignment.objects.filter(config=OuterRef("pk"), reason=Move.Reason.REDISPATCHED).unfetched()
    placed = Config.objects.filter(former_node__isnull=False, dangling_since=None)
    if ids is not None:
        placed = placed.filter(pk__in=ids)
    is_back = Q(former_node__heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    rows = placed.annotate(is_back=is_back, is_unfetched=Exists(given)).values_list("pk", "is_back", "is_unfetched")
    return {pk: unfetched for pk, back, unfetched in rows if back or not unfetched}
