"""Why a config is where it is: its last move, its orders, and the nodes that may not have it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F

from checks.dispatcher.eligibility import look
from checks.dispatcher.transaction import entries_of
from checks.explain import reasons
from checks.models import Assignment, Config, Move
from checks.models.orders import Isolation, Order, Pin
from checks.wire.scrub import scrub
from clusteragent.lib.words import moment
from nodes.models import Node


@dataclass(frozen=True)
class Why:
    """Why a config is where it is.

    sentence: the reason. orders: a sentence for each order. move: the move that brought it there. best: (name, load) of the
    least loaded nodes when it was placed. of: how many nodes could have it then. refused: {reason: names of the nodes that
    can't have it now}, the commonest reason first.
    """

    sentence: str
    orders: Sequence[str] = ()
    move: Move | None = None
    best: Sequence[tuple[str, float]] = ()
    of: int = 0
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)


def explain(config: Config) -> Why:
    """Return why a config is where it is, and which nodes can't have it."""
    orders = [_sentence(order) for order in _orders(config)]
    if config.node_name:
        return Why(f"It checks an endpoint of {config.node_name}, so it runs there and nowhere else.", orders)
    owner = Assignment.objects.filter(config=config).select_related("node").first()
    move = _last(config, owner)
    chosen: Mapping[str, Any] = (move.why if move else None) or {}
    best = [(name, load) for name, load in chosen.get("best", ())]
    refused = _refused(config, owner.node.name if owner else "")
    if owner is None:
        return Why(_ownerless(config, move, refused), orders, move, refused=refused)
    return Why(_owned(owner, move, best, chosen.get("of", 0)), orders, move, best, chosen.get("of", 0), refused)


def _last(config: Config, owner: Assignment | None) -> Move | None:
    """The move that brought it to its owner, or that took it from its last one."""
    moves = Move.objects.filter(config_id=config.pk)
    if owner is None:
        return moves.filter(to_node="").first()
    # An edit is also in the ledger, as a move from a node to the same node.
    return moves.filter(to_node=owner.node.name).exclude(source_node=F("to_node")).first()


def _owned(owner: Assignment, move: Move | None, best: Sequence[tuple[str, float]], of: int) -> str:
    name = owner.node.name
    if move is None:
        return f"The move to {name} is no longer in the ledger; its reason was: {owner.reason}."
    cause = reasons.words(move.reason).placed.format(
        to=name, source=move.source_node or "nobody", actor=move.actor or "Someone"
    )
    return f"{cause}{_choice(name, best, of)}."


def _choice(name: str, best: Sequence[tuple[str, float]], of: int) -> str:
    if not best:
        return ""
    if best[0][0] != name:
        return ", which had it before"
    return f", the least loaded of {of} nodes that could have it" if of > 1 else ", the only node that could have it"


def _ownerless(config: Config, move: Move | None, refused: Mapping[str, Sequence[str]]) -> str:
    loss = reasons.words(move.reason).lost.format(source=move.source_node) if move else ""
    before = f" ({loss})" if loss else ""
    if hasattr(config, "pause"):
        return f"It is paused, so it runs nowhere{before}."
    if not Node.objects.known().exists():
        return f"No node reports, so no node can run it{before}."
    if sum(map(len, refused.values())) < Node.objects.known().count():
        return f"It waits to be placed{before}."
    return f"No node can have it: {next(iter(refused))}{before}."


def _orders(config: Config) -> Iterable[Order]:
    found = (getattr(config, kind, None) for kind in ("pin", "pause", "isolation"))
    return [order for order in found if order is not None]


def _sentence(order: Order) -> str:
    """An order as a sentence: what, by whom, when, until when, and the note."""
    parts = [_what(order), f"by {order.author}" if order.author else "", f"on {moment(order.time)}"]
    until = getattr(order, "until", None)
    parts.append(f"until {moment(until)}" if until else "")
    note = f": {scrub(order.note)}" if order.note else "."
    return " ".join(filter(None, parts)) + note


def _what(order: Order) -> str:
    if isinstance(order, Pin):
        return f"Pinned to {order}, or it waits," if order.waits else f"Pinned to {order}"
    if isinstance(order, Isolation):
        return f"Alone on its node, since {order.get_reason_display()},"
    return "Paused"


def _refused(config: Config, owner: str) -> dict[str, list[str]]:
    """Why nodes other than the owner can't have it now: {reason: their names}, the commonest reason first."""
    [entry] = entries_of([config.pk])
    snapshot = look()
    snapshot.read_origins([entry])
    grouped: dict[str, list[str]] = {}
    for node in snapshot.nodes:
        if node.name != owner and (why := snapshot.refusal(entry, node)):
            grouped.setdefault(str(why), []).append(node.name)
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))
