"""Why a config is where it is: the ledger's last word, what is ordered of it, and which nodes may not have it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F

from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import entries_of
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import Assignment, Config, Move
from checks.models.orders import Isolation, Order, Pin
from checks.wire.scrub import scrub
from clusteragent.lib.words import moment
from nodes.models import Node

# What brought it there, by the reason of its last move.
_CAUSES: Mapping[str, str] = {
    Move.Reason.SCHEDULED: "It was placed on {to} when it came",
    Move.Reason.CHANGED: "It was placed on {to} when it changed",
    Move.Reason.REDISPATCHED: "It went to {to}, since nobody ran it",
    Move.Reason.OPERATOR: "{actor} gave it to {to}",
    Move.Reason.REBALANCED: "A rebalance moved it from {source} to {to}",
    Move.Reason.ISOLATED: "It moved to {to}, since {source} was to run an isolated config alone",
    Move.Reason.QUARANTINED: "It moved to {to}, since {source} was to run a quarantined config alone",
    Move.Reason.DRAINED: "It moved to {to}, since {source} was drained",
    Move.Reason.LEFT: "It moved to {to}, since {source} said that it leaves",
    Move.Reason.INELIGIBLE: "It moved to {to}, since {source} might not run it any more",
    Move.Reason.PINNED: "It moved to {to} by its pin",
    Move.Reason.RESUMED: "It went to {to} when its pause ended",
    Move.Reason.NOT_RUNNING: "It moved to {to}, since {source} did not run it",
    Move.Reason.UNDONE: "{actor} moved it back to {to}",
}
# Why it has no owner, by the reason for which it lost the last.
_LOSSES: Mapping[str, str] = {
    Move.Reason.EXPIRED: "{source} expired",
    Move.Reason.PAUSED: "{source} ran it before",
    Move.Reason.INELIGIBLE: "{source} might not run it any more",
    Move.Reason.PINNED: "its pin took it away from {source}",
}
# Why a node gets nothing new, by its intake.
_CLOSED: Mapping[str, str] = {
    "draining": "it is drained",
    "cordoned": "it is cordoned",
    "leaving": "it said that it leaves",
    "restarting": "it said that it restarts",
    "flapping": "it comes and goes",
    # What is open and yet accepts nothing is not heard.
    "open": "it is silent",
}


@dataclass(frozen=True)
class Why:
    """sentence: why it is where it is. best: the nodes with the least load when it was placed, of so many that could have it.

    refused: why nodes can't have it now: {reason: their names}, the commonest first.
    """

    sentence: str
    orders: Sequence[str] = ()
    move: Move | None = None
    best: Sequence[tuple[str, float]] = ()
    of: int = 0
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)


def explain(config: Config) -> Why:
    """Why a config is where it is, and where it can't be."""
    orders = [_told(order) for order in _orders(config)]
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
    """The last move that brought it to its owner, or took the last from it."""
    moves = Move.objects.filter(config_id=config.pk)
    if owner is None:
        return moves.filter(to_node="").first()
    # An edit is a line of the ledger, too, but moves nothing.
    return moves.filter(to_node=owner.node.name).exclude(source_node=F("to_node")).first()


def _owned(owner: Assignment, move: Move | None, best: Sequence[tuple[str, float]], of: int) -> str:
    name = owner.node.name
    if move is None:
        return f"The ledger no longer tells how it came to {name}; the reason was: {owner.reason}."
    cause = _CAUSES.get(move.reason, "It went to {to}").format(
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
    loss = _LOSSES.get(move.reason, "").format(source=move.source_node) if move else ""
    before = f" ({loss})" if loss else ""
    if hasattr(config, "pause"):
        return f"It is paused, so it runs nowhere{before}."
    if not Node.objects.known().exists():
        return f"No node reports, so nobody can run it{before}."
    if sum(map(len, refused.values())) < Node.objects.known().count():
        return f"It waits to be placed{before}."
    return f"No node can have it: {next(iter(refused))}{before}."


def _orders(config: Config) -> Iterable[Order]:
    found = (getattr(config, kind, None) for kind in ("pin", "pause", "isolation"))
    return [order for order in found if order is not None]


def _told(order: Order) -> str:
    """What someone ordered of it, in a sentence."""
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
    """Why nodes other than its owner can't have it now, with their names."""
    [entry] = entries_of([config.pk])
    reasons = _closed() | _not_eligible(entry)
    grouped: dict[str, list[str]] = {}
    for name in sorted(reasons.keys() - {owner}):
        grouped.setdefault(reasons[name], []).append(name)
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))


def _not_eligible(entry: Entry) -> dict[str, str]:
    eligibility = Eligibility(candidates(Node.objects.known()))
    if eligibility.needs_origins():
        name_origins([entry])
    return eligibility.refusals(entry)


def _closed() -> dict[str, str]:
    """Nodes that are given nothing, whatever it is, and why."""
    nodes = Node.objects.known()
    accepting = Node.objects.accepting()
    steady = accepting.steady() if accepting.steady().exists() else accepting
    closed: Any = nodes.exclude(pk__in=steady.values("pk")).with_state()
    found: dict[str, str] = {node.name: _CLOSED[node.intake] for node in closed}
    kept = Isolation.objects.filter(config__assignment__isnull=False).select_related("config__assignment__node")
    for isolation in kept:
        if isolation.config is not None:
            found.setdefault(isolation.config.assignment.node.name, f"it is kept for {isolation.config}, alone there")
    limited = nodes.filter(max_configs__isnull=False).annotate(number=Count("assignments"))
    for node in limited.filter(number__gte=F("max_configs")):
        found.setdefault(node.name, f"it has the most configs that it may have, {node.max_configs}")
    return found
