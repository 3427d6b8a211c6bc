"""Deciding orders of people: each function reads without a lock, changes nothing, and returns a Decision to commit."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import wraps
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

from checks.dispatcher.acting import Asked, asking, replaced, require_touchable, require_within
from checks.dispatcher.changes import Entry
from checks.dispatcher.decision import Decision, make_decision
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.inventory import Reserved
from checks.dispatcher.misplaced import Judge, relocate_misplaced
from checks.dispatcher.refusals import ORDER, UNDO
from checks.dispatcher.transaction import Choice, entries_of, relocate
from checks.models import Assignment, Move, Source
from checks.models.bounds import Outside
from checks.models.orders import Isolation, Pause, Pin
from checks.wire.sharding import parent_of
from nodes.models import Node, UnknownNode

A = TypeVar("A")
P = ParamSpec("P")

# A config that leaves an isolated one may be isolated itself, and have others move away from its new node: in so many rounds.
MOST_ROUNDS = 3


class NotAccepting(ValueError):
    """The node can't get this config, or any; the message says why."""


class NotDispatchable(ValueError):
    """The config can't be assigned; the message says why."""


class NotTheirs(ValueError):
    """People can't take the order back: a source made it, and would make it again. The message says who ordered it."""


# The exceptions of orders that can't be carried out.
REFUSALS = (UnknownNode, NotAccepting, NotDispatchable, NotTheirs, Outside)
# What orders of objects are called there.
_FIELDS: dict[type[Pin] | type[Pause], str] = {Pin: "pin", Pause: "paused"}
# What ends orders.
_ENDS: dict[type[Pin] | type[Pause], str] = {Pin: "unpin", Pause: "resume"}


def _asks(
    verb: str, of: str = "configs"
) -> Callable[[Callable[Concatenate[Collection[A], P], Decision]], Callable[Concatenate[Collection[A], P], Decision]]:
    """Let what a function refuses know what was asked for: its first argument is ids of configs, or names of nodes."""

    def decorate(
        decide: Callable[Concatenate[Collection[A], P], Decision],
    ) -> Callable[Concatenate[Collection[A], P], Decision]:
        @wraps(decide)
        def asked(about: Collection[A], /, *args: P.args, **how: P.kwargs) -> Decision:
            given: Any = {of: list(about)}
            try:
                if of == "configs" and not how.get("origin"):
                    require_touchable(verb, given[of])
                return decide(about, *args, **how)
            except REFUSALS as refusal:
                asking(refusal, Asked(verb, **given))
                raise

        return asked

    return decorate


def require_theirs(model: type[Pin] | type[Pause], config_ids: Collection[int]) -> None:
    """Raise NotTheirs if a source made an order of this kind for one of these configs.

    Not if nobody watches the source any more, or if what ordered it is gone and its removal is held.
    """
    found = list(model.objects.of(config_ids).filter(from_source=True))
    sources = Source.objects.filter(name__in={order.source for order in found})
    held = {(source.name, parent_of(key)) for source in sources for key in source.held_removals}
    off = set(sources.off().values_list("name", flat=True))
    for order in found:
        if order.source not in off and (order.source, parent_of(order.key)) not in held:
            refusal = NotTheirs(f"ordered by {order.author}: change its spec.{_FIELDS[model]}")
            asking(refusal, Asked(_ENDS[model], list(config_ids)))
            raise refusal


@_asks("reassign")
def reassign(
    config_ids: Collection[int], node: str, *, hold: bool = False, until: datetime | None = None, note: str = ""
) -> Decision:
    """Decide to give configs to a node. hold: also pin them there, in place of other pins, until `until`. Raises REFUSALS."""
    # Whether a person may give a config to a node depends on no other node.
    snapshot = read_snapshot(ORDER, names=[node])
    target = snapshot.named(node)
    if why := snapshot.node_refusal(target):
        raise NotAccepting(why.about(f"node {node}"))
    entries = _read_dispatchable(config_ids)
    snapshot.read_origins(entries)
    for entry in entries:
        if hold:
            entry.pin = None
        if entry.owner == target.id:
            continue
        if why := snapshot.refusal(entry, target):
            raise NotAccepting(f"node {node} can't have {entry.shown}: {why.with_advice()}")
        snapshot.take(entry, target.id)
    order = {"verb": "reassign", "node": node, "hold": hold, "until": _text(until), "note": note}
    return _decision(Move.Reason.OPERATOR, order, [Choice(entry, target.id, Move.Reason.OPERATOR) for entry in entries])


@_asks("pin")
def pin(
    config_ids: Collection[int], aim: str, *, kind: str = Pin.Kind.NODE, waits: bool = False,
    until: datetime | None = None, note: str = "", origin: tuple[str, str] | None = None,
) -> Decision:  # fmt: skip
    """Decide to pin configs to a node, a name pattern or a label (`kind`). Raises NotDispatchable and ValidationError.

    waits: a config for which no such node has room dangles, instead of running elsewhere. until: when the pin ends. origin: the
    source and key that order it; None for an order of people.
    """
    ordered = Pin(kind=kind, aim=aim, waits=waits)
    ordered.clean()
    entries = _read_dispatchable(config_ids, paused=True)
    for entry in entries:
        entry.pin = ordered
    order: dict[str, Any] = {
        "verb": "pin",
        "aim": aim,
        "kind": kind,
        "waits": waits,
        "until": _text(until),
        "note": note,
    }
    if origin:
        order["origin"] = origin
    return _decide_misplaced(entries, Judge(read_snapshot()), Move.Reason.PINNED, order)


@_asks("pause")
def pause(
    config_ids: Collection[int], *, until: datetime | None = None, note: str = "", origin: tuple[str, str] | None = None
) -> Decision:
    """Decide that configs run nowhere until someone resumes them, or until `until`. Raises NotDispatchable. origin: see `pin`."""
    entries = _read_dispatchable(config_ids, paused=True)
    order: dict[str, Any] = {"verb": "pause", "until": _text(until), "note": note}
    if origin:
        order["origin"] = origin
    return _decision(Move.Reason.PAUSED, order, [Choice(entry, None, Move.Reason.PAUSED) for entry in entries])


def resume(config_ids: Collection[int], *, by_source: bool = False) -> Decision:
    """Decide on nodes for those of these configs that are paused. Configs without an eligible node will dangle.

    by_source: a source resumes those that it paused itself; otherwise this raises NotTheirs for them.
    """
    if by_source:
        config_ids = Pause.objects.of(config_ids).filter(from_source=True).values_list("config_id", flat=True)
    else:
        require_theirs(Pause, config_ids)
    entries, snapshot = [entry for entry in entries_of(config_ids) if entry.paused], read_snapshot()
    snapshot.read_origins(entries)
    chosen = []
    for entry in entries:
        # A config that became an endpoint check meanwhile runs where its endpoint is.
        to = snapshot.choose(entry) if entry.owner is None and not entry.endpoint else entry.owner
        chosen.append(Choice(entry, to, Move.Reason.RESUMED))
    return _decision(Move.Reason.RESUMED, {"verb": "resume", "by_source": by_source}, chosen)


@_asks("isolate")
def isolate(config_ids: Collection[int], *, note: str = "", reason: str = Isolation.Reason.ISOLATED) -> Decision:
    """Decide that each config is alone on a node until it is released; of several on one node the first isolated stays there.

    Configs that no other node may have stay with them. Raises NotDispatchable; NotAccepting when there is no other node.
    """
    entries = _read_dispatchable(config_ids)
    others = set(Node.objects.accepting().values_list("pk", flat=True)[:2])
    for entry in entries:
        if entry.owner is None:
            raise NotDispatchable(f"{entry.shown} runs nowhere")
        if not others - {entry.owner}:
            raise NotAccepting("No other runners available")
    alone = [entry.id for entry in entries]
    order = {"verb": "isolate", "alone": alone, "reason": reason, "note": note}
    return _decision(reason, order, isolation_choices(alone, reason))


@_asks("drain", of="nodes")
def drain(nodes: Collection[str], *, by: datetime | None = None, note: str = "") -> Decision:
    """Decide to cordon nodes and move their configs. The moves are a forecast: the next passes make them, all of them until `by`.
    Raises UnknownNode.
    """
    now = read_snapshot()
    drained = [now.named(name) for name in sorted(set(nodes))]
    names = [node.name for node in drained]
    later = now.with_nodes(without=names, new=[node._replace(intake="draining") for node in drained])
    entries = _held([node.id for node in drained])
    order = {"verb": "drain", "nodes": names, "note": note, "held": len(entries)}
    order |= {"by": by.isoformat()} if by else {}
    return _decide_misplaced(entries, Judge(later), Move.Reason.DRAINED, order)


def undo(move_ids: Collection[int], *, as_one: bool = False) -> Decision:
    """Decide to give configs back to the nodes that these moves took them from. `refused`: {move's id: why not}.

    as_one: of moves that follow each other, as in rounds of balancing, a config goes back to where the first took it from.
    """
    possible, refused = _judge_undo(move_ids, _chains if as_one else _alone)
    chosen = [Choice(entry, node, Move.Reason.UNDONE) for entry, node in possible]
    return _decision(Move.Reason.UNDONE, {"verb": "undo"}, chosen, refused=refused)


def undo_refusals(move_ids: Collection[int]) -> dict[int, str]:
    """Return why moves can't be undone now, each alone: {move's id: why}. Moves that can be undone are left out."""
    return _judge_undo(move_ids, _alone)[1]


def isolation_choices(alone: Collection[int], reason: str) -> list[Choice]:
    """Choose new nodes for the other configs of the nodes of `alone`. Configs that no other node may have stay.

    Of several isolated configs on one node, the one that was isolated first stays. The others get nodes of their own, and
    the configs of those nodes move, too. Returns a choice for each config of the nodes concerned.
    """
    isolated = dict(Isolation.objects.filter(config__isnull=False).values_list("config_id", "pk"))
    wanted = {*isolated, *alone}
    nodes = set(Assignment.objects.filter(config__in=alone).values_list("node", flat=True))
    now = read_snapshot()
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
        more = {node: Reserved(one.id, one.shown, reason) for node, one in first.items()}
        snapshot = replace(now, reserved={**now.reserved, **more})
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
    """Choose other nodes for these, and set them as their owners. Returns whether any of them moves."""
    # If each node is reserved for an isolated config, the next round would move the configs on to another such node.
    chosen = [] if snapshot.is_all_reserved else relocate(entries, snapshot, reason, elsewhere=True)
    moved = [choice for choice in chosen if choice.to != choice.entry.owner]
    for choice in moved:
        choice.entry.owner = choice.to
    return bool(moved)


def _held(nodes: Collection[int]) -> list[Entry]:
    """The configs that these nodes have."""
    held = Assignment.objects.filter(node__in=nodes).order_by("config_id")
    return entries_of(held.values_list("config_id", flat=True))


def _decide_misplaced(entries: Sequence[Entry], judge: Judge, reason: str, order: dict[str, Any]) -> Decision:
    """Decide to move the configs that may not, or should not, run where they are, as a pass would do it now."""
    chosen = relocate_misplaced(entries, judge)
    going = {choice.entry.id for choice in chosen}
    staying = [Choice(entry, entry.owner, reason) for entry in entries if entry.id not in going]
    return _decision(reason, order, staying + chosen)


def _decision(*decided: Any, **also: Any) -> Decision:
    """The decision that carries out these choices. Raises Outside."""
    decision = make_decision(*decided, **also)
    require_within(decision, is_done=False)
    if (orders := replaced(decision)) is None:
        return decision
    return replace(decision, order={**decision.order, "replaces": sorted(orders.values_list("pk", flat=True))})


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _read_dispatchable(ids: Collection[int], *, paused: bool = False) -> list[Entry]:
    """Read configs that a person may give to a node; `paused`: or that are paused. Raises NotDispatchable for others."""
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


def _alone(moves: Iterable[Move]) -> list[list[Move]]:
    return [[move] for move in moves]


def _chains(moves: Iterable[Move]) -> list[list[Move]]:
    """Group moves of each config that follow each other, the first one first."""
    found: list[list[Move]] = []
    last: dict[int, list[Move]] = {}
    for move in sorted(moves, key=attrgetter("pk")):
        chain = last.get(move.config_id)
        if chain is None or chain[-1].to_node != move.source_node:
            chain = last[move.config_id] = []
            found.append(chain)
        chain.append(move)
    return found


def _judge_undo(
    move_ids: Collection[int], group: Callable[[Iterable[Move]], list[list[Move]]]
) -> tuple[list[tuple[Entry, int]], dict[int, str]]:
    """Judge which of these moves can be undone. group: makes lists of them, each of which is undone as one, the first one first.

    Returns [(config, id of the node that gets it back)] and {move's id: why not}.
    """
    moves = Move.objects.in_bulk(move_ids)
    entries = {entry.id: entry for entry in entries_of({move.config_id for move in moves.values()})}
    last = Move.objects.last_of(entries)
    snapshot = read_snapshot(UNDO)
    snapshot.read_origins(entries.values())
    possible = []
    refused = {id_: "the ledger has no such move" for id_ in move_ids if id_ not in moves}
    for chain in group(moves.values()):
        first, move = chain[0], chain[-1]
        entry, node = entries.get(move.config_id), snapshot.by_name.get(first.source_node)
        why = _why_not_undone(first, move, entry, last)
        if entry is None or node is None:
            why = why or f"{first.source_node} is gone"
        elif not why and (refusal := snapshot.refusal(entry, node)):
            why = refusal.with_advice(node.name)
        elif not why:
            snapshot.take(entry, node.id)
            possible.append((entry, node.id))
        if why:
            refused |= dict.fromkeys((one.pk for one in chain), why)
    return possible, refused


def _why_not_undone(first: Move, move: Move, entry: Entry | None, last: Mapping[int, int]) -> str:
    """Why a move, and those before it since `first`, can't be undone, whatever nodes there are; empty if they can.

    last: {config's id: its last move's id}.
    """
    if not first.source_node:
        return "it was on no node just before"
    if first.source_node == move.to_node:
        return "it did not leave its node" if first is move else "its node has it again"
    if entry is None:
        return "the config is gone"
    if entry.paused:
        return "it is paused: resume it first"
    if not move.to_node:
        return "it was taken from its node, not given to another"
    return "it has moved again since" if last.get(entry.id) != move.pk or entry.owner is None else ""
