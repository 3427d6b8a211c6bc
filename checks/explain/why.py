"""Why a config is where it is: its last move, its orders, and the nodes that may not have it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, QuerySet

from checks.dispatcher import costs
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain import reasons
from checks.explain.facts import handed_over
from checks.models import Assignment, Config, Handover, Move
from checks.models.map import WITHDRAWN_RESTS
from checks.models.orders import Isolation, Order, Pin
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.words import grouped_count, listed, plain_count, utc
from nodes.models import Node
from nodes.models.nodes import named_domain

# So many of the orders that an act ends are told one by one.
MOST_ENDED = 5


@dataclass(frozen=True)
class Why:
    """Why a config is where it is.

    sentence: the reason. orders: a sentence for each order. move: the move that brought it there. best: (name, load) of the
    least loaded nodes when it was placed. assumed: its cost was not measured then. of: how many nodes could have it then.
    handover: while it is handed over to its node.
    """

    sentence: str
    orders: Sequence[str] = ()
    move: Move | None = None
    best: Sequence[tuple[str, float]] = ()
    of: int = 0
    handover: Handover | None = None
    assumed: bool = False


def explain(config: Config) -> Why:
    """Return why a config is where it is, or why it is nowhere."""
    found = (getattr(config, kind, None) for kind in ("pin", "pause", "isolation"))
    orders = [_sentence(order) for order in found if order is not None]
    if config.node_name:
        return Why(f"It checks an endpoint of {config.node_name}, so it runs there and nowhere else.", orders)
    owner = Assignment.objects.filter(config=config).select_related("node").first()
    moves = Move.objects.filter(config_id=config.pk)
    if owner is None:
        move = moves.filter(to_node="").first()
        return Why(_ownerless(config, move), orders, move)
    # An edit is also in the ledger, as a move from a node to the same node.
    move = moves.filter(to_node=owner.node.name).exclude(source_node=F("to_node")).first()
    chosen: Mapping[str, Any] = (move.why if move else None) or {}
    sentence = _owned(owner, move, chosen)
    handover = Handover.objects.filter(pk=config.pk).select_related("source", "between").first()
    if handover:
        sentence += f" It is being handed over: {handed_over(handover, owner.node.name)}."
    elif Assignment.objects.withdrawn().filter(pk=config.pk).exists():
        sentence += f" Until {utc(owner.since + WITHDRAWN_RESTS, clock.now())} only a person takes it from there again."
    best = [(name, load) for name, load in chosen.get("best", ())]
    return Why(sentence, orders, move, best, chosen.get("of", 0), handover, bool(chosen.get("assumed")))


@dataclass(frozen=True)
class Others:
    """Where else a config could be now.

    best: (name, load) of the least loaded nodes that could have it. assumed: the names of those whose load is a guess. refused:
    {reason: names of the nodes that can't}, the commonest reason first.
    """

    best: Sequence[tuple[str, float]] = ()
    assumed: Collection[str] = ()
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)


def others(config: Config) -> Others:
    """Return which other nodes could have a config now, and why the rest can't. An endpoint check has no others."""
    if config.node_name:
        return Others()
    snapshot, entry = _judged(config)
    owner = snapshot.by_id.get(entry.owner or 0)
    best = snapshot.best(entry)
    names = {snapshot.by_name[name].id: name for name, _ in best}
    assumed = {names[node] for node in costs.told_of(names).assumed}
    return Others(best, assumed, refusals(snapshot, entry, owner.name if owner else ""))


def _judged(config: Config) -> tuple[Snapshot, Entry]:
    """What a config is judged on, and the config as that takes it."""
    [entry] = entries_of([config.pk])
    snapshot = read_snapshot()
    snapshot.read_origins([entry])
    return snapshot, entry


def _owned(owner: Assignment, move: Move | None, chosen: Mapping[str, Any]) -> str:
    name, best, of = owner.node.name, chosen.get("best"), chosen.get("of", 0)
    if move is None:
        return f"The move to {name} is no longer in the ledger; its reason was: {owner.reason}."
    source, actor = move.source_node or "nobody", move.actor or "Someone"
    cause = reasons.words(move.reason).placed.format(to=name, source=source, actor=actor) + _rule(chosen)
    if not best:
        return f"{cause}."
    if chosen.get("together"):
        return f"{cause}, where rule {chosen['together']} wants it together with others."
    if best[0][0] != name:
        return f"{cause}, which had it before."
    if chosen.get("domain") is not None:
        where = f"{plain_count(of, 'node')} in {named_domain(chosen['domain'])}"
        return f"{cause}, the least loaded of {where}, where rule {chosen['rule']} has the fewest."
    return f"{cause}, the {f'least loaded of {of} nodes' if of > 1 else 'only node'} that could have it."


def _ownerless(config: Config, move: Move | None) -> str:
    loss = reasons.words(move.reason).lost.format(source=move.source_node) if move else ""
    before = f" ({loss}{_rule((move.why if move else None) or {})})" if loss else ""
    if hasattr(config, "pause"):
        return f"It is paused, so it runs nowhere{before}."
    cause = why_dangling(refusals(*_judged(config)), Node.objects.known().count())
    return f"{cause[0].upper()}{cause[1:]}{before}."


def _rule(chosen: Mapping[str, Any]) -> str:
    """The rule for which the former node may not have it, as the end of a sentence; empty for other moves."""
    return f" by rule {scrub(chosen['forbidden_by'])}" if chosen.get("forbidden_by") else ""


def why_dangling(refused: Mapping[str, Sequence[str]], known: int) -> str:
    """Return why a config that should have an owner has none. refused: see `refusals`. known: how many nodes there are."""
    if not known:
        return "no node reports, so no node can run it"
    if sum(map(len, refused.values())) < known:
        return "it waits to be placed"
    return f"no node can have it: {commonest({why: len(names) for why, names in refused.items()})}"


def commonest(reasons: Mapping[str, int]) -> str:
    """The commonest of these reasons; of several the first two with their numbers of nodes, since one may be mended alone.

    reasons: {why: how many nodes}.
    """
    ordered = sorted(reasons.items(), key=lambda one: -one[1])
    if len(ordered) == 1:
        return ordered[0][0]
    told = [f"{why} ({plain_count(number, 'node')})" for why, number in ordered[:2]]
    return listed([*told, "others"] if len(ordered) > 2 else told, None)


def _sentence(order: Order) -> str:
    """An order as a sentence."""
    said = given(order)
    return f"{said[0].upper()}{said[1:]}"


def given(order: Order) -> str:
    """Return an order in words, up to a full stop: what, by whom, when, until when, and the note."""
    until = getattr(order, "until", None)
    parts = [ordered(order), f"by {order.author}" if order.author else "", f"on {utc(order.time)}"]
    parts.append(f"until {utc(until)}" if until else "")
    note = f": {scrub(order.note)}" if order.note else "."
    return " ".join(filter(None, parts)) + note


def ended(orders: QuerySet[Any], words: str) -> list[str]:
    """Return a sentence about each of these orders, of many the first MOST_ENDED. words: what becomes of them."""
    rows, number = list(orders.select_related("config").order_by("pk")[:MOST_ENDED]), orders.count()
    left = [f"{words}: {grouped_count(number - MOST_ENDED, 'more order')}."] if number > MOST_ENDED else []
    return [*(f"{words}: {one.config or one}, {given(one)}" for one in rows), *left]


def ordered(order: Order) -> str:
    """Return what an order says, without who gave it, when, and until when."""
    if isinstance(order, Pin):
        return f"pinned to {order}, or it waits," if order.waits else f"pinned to {order}"
    if isinstance(order, Isolation):
        return f"alone on its node, since {order.get_reason_display()},"
    return "paused"


def refusals(snapshot: Snapshot, entry: Entry, owner: str = "", subject: str = "it") -> dict[str, list[str]]:
    """Return why nodes other than the owner can't have a config: {reason: their names}, the commonest reason first.

    The snapshot has read the origins of the config. subject: what a reason calls the node.
    """
    grouped: dict[str, list[str]] = {}
    for node in snapshot.nodes:
        if node.name != owner and (why := snapshot.refusal(entry, node)):
            grouped.setdefault(why.about(subject), []).append(node.name)
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))
