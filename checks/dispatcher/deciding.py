"""Deciding what people order: each function reads without a lock, changes nothing, and returns a Decision to commit."""

import math
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from checks.dispatcher.changes import Entry
from checks.dispatcher.decision import Decision, decided
from checks.dispatcher.eligibility import ORDER, Candidate, Kept, Snapshot, look
from checks.dispatcher.misplaced import Judge, astray
from checks.dispatcher.transaction import Choice, entries_of, relocate
from checks.dispatcher.undoing import returning
from checks.models import Assignment, Move
from checks.models.orders import Isolation, Pin
from nodes.models import Node, UnknownNode

# How often what was moved away from isolated configs may itself be isolated, and find others where it comes to.
MOST_ROUNDS = 3


class NotAccepting(ValueError):
    """The node can't be given work; the message says why."""


class NotDispatchable(ValueError):
    """The config can't be assigned; the message says why."""


# What deciding raises where an order can't be carried out.
REFUSALS = (UnknownNode, NotAccepting, NotDispatchable)


def reassign(
    config_ids: Collection[int], node: str, *, hold: bool = False, until: datetime | None = None, note: str = ""
) -> Decision:
    """Give configs to a node; hold: and pin them there, until then, in place of other pins. Raises REFUSALS."""
    snapshot = look(ORDER)
    target, entries = accepting(snapshot, node), dispatchable(config_ids)
    for entry in entries if hold else ():
        entry.pin = None
    check_admitted(snapshot, target, [entry for entry in entries if entry.owner != target.id])
    order = {"verb": "reassign", "node": node, "hold": hold, "until": _text(until), "note": note}
    return decided(Move.Reason.OPERATOR, order, [Choice(entry, target.id, Move.Reason.OPERATOR) for entry in entries])


def pin(
    config_ids: Collection[int], aim: str, *, kind: str = Pin.Kind.NODE, waits: bool = False,
    until: datetime | None = None, note: str = "",
) -> Decision:  # fmt: skip
    """Pin configs to a node, a name pattern or a label. Raises NotDispatchable, and ValidationError."""
    ordered = Pin(kind=kind, aim=aim, waits=waits)
    ordered.clean()
    entries = dispatchable(config_ids, paused=True)
    for entry in entries:
        entry.pin = ordered
    order = {"verb": "pin", "aim": aim, "kind": kind, "waits": waits, "until": _text(until), "note": note}
    return _astray(entries, Judge(look()), Move.Reason.PINNED, order)


def pause(config_ids: Collection[int], *, until: datetime | None = None, note: str = "") -> Decision:
    """Let configs run nowhere until someone resumes them, or until then. Raises NotDispatchable."""
    entries = dispatchable(config_ids, paused=True)
    order = {"verb": "pause", "until": _text(until), "note": note}
    return decided(Move.Reason.PAUSED, order, [Choice(entry, None, Move.Reason.PAUSED) for entry in entries])


def resume(config_ids: Collection[int]) -> Decision:
    """Give those of these configs that are paused to nodes again. What finds none dangles."""
    entries, snapshot = [entry for entry in entries_of(config_ids) if entry.paused], look()
    snapshot.read_origins(entries)
    chosen = []
    for entry in entries:
        # What became an endpoint check meanwhile runs where its endpoint is.
        to = snapshot.choose(entry) if entry.owner is None and not entry.endpoint else entry.owner
        chosen.append(Choice(entry, to, Move.Reason.RESUMED))
    return decided(Move.Reason.RESUMED, {"verb": "resume"}, chosen)


def isolate(config_ids: Collection[int], *, note: str = "", reason: str = Isolation.Reason.ISOLATED) -> Decision:
    """Leave configs alone on their nodes until they are released; of several on one node one stays.

    What no other node may have stays with them. Raises NotDispatchable; NotAccepting when there is no other node.
    """
    entries = dispatchable(config_ids)
    others = set(Node.objects.accepting().values_list("pk", flat=True)[:2])
    for entry in entries:
        if entry.owner is None:
            raise NotDispatchable(f"{entry.shown} runs nowhere")
        if not others - {entry.owner}:
            raise NotAccepting("No other runners available")
    alone = [entry.id for entry in entries]
    order = {"verb": "isolate", "alone": alone, "reason": reason, "note": note}
    return decided(reason, order, apart(alone, reason))


def drain(nodes: Collection[str]) -> Decision:
    """Cordon nodes, and let what they have move bit by bit: the moves are those of the passes to come. Raises UnknownNode."""
    now = look()
    drained = [now.named(name) for name in sorted(set(nodes))]
    names = [node.name for node in drained]
    later = now.changed(without=names, new=[node._replace(intake="draining") for node in drained])
    entries = _held([node.id for node in drained])
    return _astray(entries, Judge(later), Move.Reason.DRAINED, {"verb": "drain", "nodes": names})


def undo(move_ids: Collection[int]) -> Decision:
    """Give configs back to the nodes that these moves took them from. `refused` says which can't be, by the move's id."""
    possible, refused = returning(move_ids)
    chosen = [Choice(entry, node, Move.Reason.UNDONE) for entry, node in possible]
    return decided(Move.Reason.UNDONE, {"verb": "undo"}, chosen, refused=refused)


def apart(alone: Collection[int], reason: str) -> list[Choice]:
    """Choose who leaves the nodes of configs that are to be alone there, and where to. What no other may have stays.

    Of several on one node, the one that was isolated first stays; the others are to be alone where they come to.
    """
    isolated = dict(Isolation.objects.filter(config__isnull=False).values_list("config_id", "pk"))
    wanted = {*isolated, *alone}
    nodes = set(Assignment.objects.filter(config__in=alone).values_list("node", flat=True))
    now = look()
    found: dict[int, Entry] = {}
    owners: dict[int, int | None] = {}
    for rounds_left in reversed(range(MOST_ROUNDS)):
        for entry in _held(nodes):
            found.setdefault(entry.id, entry)
            owners.setdefault(entry.id, entry.owner)
        lonely = [entry for entry in found.values() if entry.id in wanted]
        first: dict[int, Entry] = {}
        for entry in sorted(lonely, key=lambda entry: (isolated.get(entry.id, math.inf), entry.id)):
            first.setdefault(entry.owner or 0, entry)
        snapshot = now.keeping({node: Kept(entry.id, entry.shown, reason) for node, entry in first.items()})
        others = [entry for entry in lonely if first[entry.owner or 0] is not entry]
        if not (rounds_left and _move_away(others, snapshot, reason)):
            break
        nodes |= {entry.owner for entry in others if entry.owner}
    _move_away([entry for entry in found.values() if first.get(entry.owner or 0, entry) is not entry], snapshot, reason)
    choices = [Choice(entry, entry.owner, reason) for entry in found.values()]
    for entry in found.values():
        entry.owner = owners[entry.id]
    return choices


def _move_away(entries: Collection[Entry], snapshot: Snapshot, reason: str) -> bool:
    """Give these, as far as it is worked out, to other nodes. Returns whether one of them can be."""
    # A node that is kept for another isolated config would only send back what comes.
    chosen = [] if snapshot.is_all_kept else relocate(entries, snapshot, reason, elsewhere=True)
    moved = [choice for choice in chosen if choice.to != choice.entry.owner]
    for choice in moved:
        choice.entry.owner = choice.to
    return bool(moved)


def _held(nodes: Collection[int]) -> list[Entry]:
    """What these nodes have."""
    held = Assignment.objects.filter(node__in=nodes).order_by("config_id")
    return entries_of(held.values_list("config_id", flat=True))


def _astray(entries: Sequence[Entry], judge: Judge, reason: str, order: dict[str, Any]) -> Decision:
    """Move those that may not, or should not, run where they are, as a pass would do it now."""
    chosen = astray(entries, judge)
    going = {choice.entry.id for choice in chosen}
    staying = [Choice(entry, entry.owner, reason) for entry in entries if entry.id not in going]
    return decided(reason, order, staying + chosen)


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def dispatchable(ids: Collection[int], *, paused: bool = False) -> list[Entry]:
    """Configs that a person may give to a node. Raises NotDispatchable."""
    entries = entries_of(ids)
    missing = set(ids) - {entry.id for entry in entries}
    if missing:
        raise NotDispatchable(f"config {min(missing)} does not exist any more")
    for entry in entries:
        if entry.endpoint:
            raise NotDispatchable(f"{entry.shown} is an endpoint check: it runs where its endpoint is")
        if entry.paused and not paused:
            raise NotDispatchable(f"{entry.shown} is paused: resume it first")
    return entries


def accepting(snapshot: Snapshot, name: str) -> Candidate:
    """The node of this name, which may be given work. Raises UnknownNode or NotAccepting."""
    node = snapshot.named(name)
    if why := snapshot.closed(node):
        raise NotAccepting(why.of(f"node {name}"))
    return node


def check_admitted(snapshot: Snapshot, node: Candidate, entries: Sequence[Entry]) -> None:
    """Raise NotAccepting where the node may not have one of these, on top of what it has."""
    snapshot.read_origins(entries)
    for entry in entries:
        if why := snapshot.refusal(entry, node):
            raise NotAccepting(f"node {node.name} can't have {entry.shown}: {why.advised()}")
        snapshot.take(entry, node.id)
