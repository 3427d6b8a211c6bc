"""The end of hand-overs: when node agents have acknowledged their steps, or time is over, or a node is lost."""

import enum
from collections.abc import Collection, Sequence

from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import MapWriter, entries_of, in_chunks, own_transaction
from checks.models import ClusterStore, Handover, Move
from checks.models.handovers import Progress
from checks.models.map import Call
from clusteragent.lib.traces import counting
from nodes import statsclient
from nodes.models import Node


class End(enum.Enum):
    """How a hand-over ends."""

    # The former node loses it (overlap), or the new one gets it (strict).
    DONE = enum.auto()
    # As DONE, though nobody fetched it: without a promise it would have been so from the beginning.
    UNFETCHED = enum.auto()
    # The former node gets it back.
    WITHDRAWN = enum.auto()


@counting("moves")
def settle(*, term: int | None = None) -> list[Move]:
    """End the hand-overs that can end now, and return the moves: of those that end otherwise than they should.

    For those that only lack a proof, the leader is called to ask for it. More than CHUNK are not atomic.
    """
    progress = Handover.objects.progress()
    moves = in_chunks([one.config_id for one in progress if end_of(one)], lambda chunk: _settle(chunk, term))
    if any(map(_lacks_proof, progress)):
        ClusterStore.objects.wake(Call.PROVE)
    return moves


def end_of(progress: Progress) -> End | None:
    """Return how a hand-over ends now; None while it goes on.

    Nobody ends it for want of an acknowledgement while the node that it waits for is silent: if that is lost, it expires.
    """
    if progress.is_over:
        return End.DONE
    if progress.has_acknowledged and (progress.handing.is_strict or progress.is_proven or progress.is_late):
        return End.DONE
    if not progress.is_late:
        return None
    return End.WITHDRAWN if progress.handing.is_strict else End.UNFETCHED


def unproven() -> set[int]:
    """Return the ids of the nodes that have fetched what they take over, and whose stats should tell whether it runs."""
    return {one.owner for one in Handover.objects.progress() if one.owner is not None and _lacks_proof(one)}


def prove() -> statsclient.Round:
    """Ask the runners that take over configs whether these run. It takes seconds: never call it inside a transaction."""
    return statsclient.collect(unproven())


def end_of_lost(writer: MapWriter, most: int) -> int:
    """End up to `most` hand-overs of which a node is lost, but for those that another node still runs for their owner.

    Of a lost owner the former node, or else the node between, is the owner again, if it lives. Returns how many there were.
    """
    lost = Handover.objects.with_a_lost_node().order_by("config_id").values_list("config_id", flat=True)[:most]
    ids = list(lost)
    if not ids:
        return 0
    entries = entries_of(ids)
    handings = {entry.id: entry.handing for entry in entries if entry.handing}
    concerned = {node for handing in handings.values() for node in handing.runners}
    concerned |= {entry.owner for entry in entries if entry.owner is not None}
    alive = set(Node.objects.known().filter(pk__in=concerned).values_list("pk", flat=True))
    back = []
    for entry in entries:
        handing = handings.get(entry.id)
        # The former node surely runs it, and the one between perhaps.
        left = [node for node in (handing.source, handing.between) if node in alive] if handing else []
        goes_on = handing._replace(source=left[0], between=next(iter(left[1:]), None)) if handing and left else None
        writer.hand(entry, goes_on, is_done=goes_on is None and entry.owner in alive)
        if left and entry.owner not in alive:
            back.append(entry)
    give_back(writer, back, Move.Reason.EXPIRED)
    forget(ids, entries)
    return len(ids)


def give_back(writer: MapWriter, entries: Collection[Entry], reason: str) -> None:
    """Give configs back to the nodes that hand them over."""
    for entry in entries:
        assert entry.handing is not None
        writer.move(entry, entry.handing.source, reason)
    writer.transfer(entries, reason)


def forget(ids: Collection[int], entries: Collection[Entry]) -> None:
    """Delete the hand-overs of those of these configs that are no more. An older version leaves them."""
    Handover.objects.filter(config_id__in=set(ids) - {entry.id for entry in entries}).delete()


def _lacks_proof(progress: Progress) -> bool:
    return progress.has_acknowledged and end_of(progress) is None


@own_transaction
def _settle(ids: Sequence[int], term: int | None) -> list[Move]:
    writer = MapWriter(term, "")
    ends = {one.config_id: end_of(one) for one in Handover.objects.progress(ids)}
    entries = entries_of(ends)
    forget(ids, entries)
    back = []
    for entry in entries:
        match ends[entry.id]:
            case End.WITHDRAWN:
                back.append(entry)
            case End.UNFETCHED:
                writer.hand(entry, None)
                writer.note(entry, Move.Reason.UNFETCHED)
            case End.DONE:
                writer.hand(entry, None, is_done=True)
    give_back(writer, back, Move.Reason.WITHDRAWN)
    return writer.finish()
