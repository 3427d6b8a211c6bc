"""Deciding what people order: each function reads without a lock, changes nothing, and returns a Decision to commit."""

import math
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from checks.dispatcher.changes import Entry
from checks.dispatcher.decision import Decision, decided
from checks.dispatcher.misplaced import Judge, astray
from checks.dispatcher.transaction import Choice, Placement, entries_of, relocate
from checks.dispatcher.undoing import returning
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import Assignment, Move
from checks.models.orders import Isolation, Pin
from clusteragent.lib import conf
from nodes.models import Hearing, Node
from nodes.models.querysets import UnknownNode

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
    entries, target = dispatchable(config_ids), accepting(node)
    for entry in entries if hold else ():
        entry.pin = None
    check_admitted(target, [entry for entry in entries if entry.owner != target.pk])
    order = {"verb": "reassign", "node": node, "hold": hold, "until": _text(until), "note": note}
    return decided(Move.Reason.OPERATOR, order, [Choice(entry, target.pk, Move.Reason.OPERATOR) for entry in entries])


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
    placement = Placement(_open())
    order = {"verb": "pin", "aim": aim, "kind": kind, "waits": waits, "until": _text(until), "note": note}
    return _astray(entries, placement, Judge(placement), Move.Reason.PINNED, order)


def pause(config_ids: Collection[int], *, until: datetime | None = None, note: str = "") -> Decision:
    """Let configs run nowhere until someone resumes them, or until then. Raises NotDispatchable."""
    entries = dispatchable(config_ids, paused=True)
    order = {"verb": "pause", "until": _text(until), "note": note}
    return decided(Move.Reason.PAUSED, order, [Choice(entry, None, Move.Reason.PAUSED) for entry in entries])


def resume(config_ids: Collection[int]) -> Decision:
    """Give those of these configs that are paused to nodes again. What finds none dangles."""
    entries, placement = [entry for entry in entries_of(config_ids) if entry.paused], Placement(_open())
    if placement.eligibility.needs_origins():
        name_origins(entries)
    chosen = []
    for entry in entries:
        # What became an endpoint check meanwhile runs where its endpoint is.
        to = placement.choose(entry) if entry.owner is None and not entry.endpoint else entry.owner
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
    ids = {node.name: node.pk for node in Node.objects.known().filter(name__in=nodes)}
    for name in sorted(set(nodes) - ids.keys()):
        raise UnknownNode(f"node {name} is unknown")
    entries = _held(ids.values())
    placement = Placement(_open(ids.values()))
    judge = Judge(placement, draining=ids.values())
    return _astray(entries, placement, judge, Move.Reason.DRAINED, {"verb": "drain", "nodes": sorted(ids)})


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
    found: dict[int, Entry] = {}
    owners: dict[int, int | None] = {}
    for rounds_left in reversed(range(MOST_ROUNDS)):
        # A node that is kept for another isolated config would only send back what comes.
        placement = Placement(_open(nodes))
        for entry in _held(nodes):
            found.setdefault(entry.id, entry)
            owners.setdefault(entry.id, entry.owner)
        lonely = [entry for entry in found.values() if entry.id in wanted]
        first: dict[int | None, Entry] = {}
        for entry in sorted(lonely, key=lambda entry: (isolated.get(entry.id, math.inf), entry.id)):
            first.setdefault(entry.owner, entry)
        others = [entry for entry in lonely if first[entry.owner] is not entry]
        if not (rounds_left and _move_away(others, placement, reason)):
            break
        nodes |= {entry.owner for entry in others if entry.owner}
    _move_away([entry for entry in found.values() if first.get(entry.owner, entry) is not entry], placement, reason)
    choices = [Choice(entry, entry.owner, reason) for entry in found.values()]
    for entry in found.values():
        entry.owner = owners[entry.id]
    return choices


def _move_away(entries: Collection[Entry], placement: Placement, reason: str) -> bool:
    """Give these, as far as it is worked out, to other nodes. Returns whether one of them can be."""
    chosen = [] if placement.is_kept else relocate(entries, placement, reason, elsewhere=True)
    moved = [choice for choice in chosen if choice.to != choice.entry.owner]
    for choice in moved:
        choice.entry.owner = choice.to
    return bool(moved)


def _held(nodes: Collection[int]) -> list[Entry]:
    """What these nodes have."""
    held = Assignment.objects.filter(node__in=nodes).order_by("config_id")
    return entries_of(held.values_list("config_id", flat=True))


def _astray(
    entries: Sequence[Entry], placement: Placement, judge: Judge, reason: str, order: dict[str, Any]
) -> Decision:
    """Move those that may not, or should not, run where they are, as a pass would do it now."""
    chosen = astray(entries, placement, judge)
    going = {choice.entry.id for choice in chosen}
    staying = [Choice(entry, entry.owner, reason) for entry in entries if entry.id not in going]
    return decided(reason, order, staying + chosen)


def _open(without: Collection[int] = ()) -> Collection[int] | None:
    """The nodes that may be given work, but for some; None: all that accept it."""
    if Hearing.objects.filter(warmup=True).exists():
        return ()
    return Node.objects.accepting().exclude(pk__in=without).values_list("pk", flat=True) if without else None


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


def accepting(name: str) -> Node:
    """The node of this name, which may be given work. Raises UnknownNode or NotAccepting."""
    node = Node.objects.known().filter(name=name).first()
    if node is None:
        raise UnknownNode(f"node {name} is unknown")
    if not node.schedulable:
        raise NotAccepting(f"node {name} is cordoned: it gets nothing new")
    if node.leaving:
        raise NotAccepting(f"node {name} said that it leaves: it gets nothing new")
    if not Node.objects.alive().filter(pk=node.pk).exists():
        raise NotAccepting(f"node {name} is silent for longer than {conf.NODE_EXPIRATION_TIMEOUT.total_seconds():g} s")
    if Hearing.objects.filter(warmup=True).exists():
        raise NotAccepting("nothing is placed before the warm-up of this new database is over")
    return node


def check_admitted(node: Node, entries: Sequence[Entry]) -> None:
    """Raise NotAccepting where a rule, a pin, an isolation or the node itself refuses one of these."""
    [candidate] = candidates(Node.objects.filter(pk=node.pk))
    eligibility = Eligibility([candidate])
    if eligibility.needs_origins():
        name_origins(entries)
    for entry in entries:
        if entry.pin is not None and not entry.pin.matches(node.name, node.labels):
            raise NotAccepting(f"{entry.shown} is pinned to {entry.pin}: unpin it first")
        if why := eligibility.refusals(entry).get(node.name):
            raise NotAccepting(f"node {node.name} can't have {entry.shown}: {why}")
        eligibility.take(entry, node.pk)
    alone = Isolation.objects.filter(config__assignment__node=node).exclude(config__in=[entry.id for entry in entries])
    if lonely := alone.select_related("config").first():
        raise NotAccepting(f"node {node.name} is kept for {lonely.config}, which is {lonely.reason}")
    if node.max_configs is not None and node.assignments.count() + len(entries) > node.max_configs:
        raise NotAccepting(f"node {node.name} may have at most {node.max_configs} configs")
