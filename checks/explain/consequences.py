"""What an order means besides its moves, in the words that plans' pages and dry runs of commands show. Read-only."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from checks import dispatcher, plans
from checks.dispatcher import costs
from checks.explain import forecasts, objections
from checks.explain.aftermath import refilled_after, told_refilled
from checks.explain.why import ended
from checks.models import Plan, freezes
from checks.models.orders import Pin
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from clusteragent.lib.patterns import fits
from clusteragent.lib.spelling import nearest
from clusteragent.lib.words import agreeing, listed, load_change, natural, percent, plain_count
from nodes.models import Node, Runner, Slowness

# The most nodes that are named.
NAMED = 3
# Where the part of a pattern that stands for itself ends.
_WILDCARD = re.compile(r"[*?]")


def sentence(plan: Plan) -> str:
    """Return how many configs a plan moves, and how the highest load changes."""
    number = len(plan.moves)
    if not number:
        return "Nothing moves."
    one, many = {"pause": ("stops running", "stop running"), "resume": ("comes back", "come back")}.get(
        plan.order.get("verb", ""), ("moves", "move")
    )
    verb = one if number == 1 else many
    if stopping := len(objections.left(plan)):
        stops = "stops running" if stopping == 1 else "stop running"
        verb = stops if stopping == number else f"{verb}, {stopping} of them {stops}"
    peak = load_change(plan.spread["peak"])
    return (
        f"{plain_count(number, 'config')} {verb}. {plain_count(len(plan.nodes), 'node')} touched, highest load {peak}."
    )


def worse(plan: Plan) -> list[str]:
    """Return in which ways a plan makes things worse, in words that pages show in red."""
    closing = [one.reason for one in objections.of(plan) if one.accepted_by == objections.NO_NODE]
    return [*objections.worse(plan.spread.get("peak", ()), len(without_node(plan))), *closing]


def without_node(plan: Plan) -> list[dict[str, Any]]:
    """Return the configs that should run and would have no node by a plan."""
    return [*objections.left(plan), *(plan.staying() if plan.order.get("verb") == "resume" else ())]


def of(plan: Plan) -> list[str]:
    """Return what the order of a plan means besides its moves, one sentence each.

    Until when it holds, what would stay and why, and what may be an error. Without its note.
    """
    order, found = plan.order, ends(plan)
    if refused := order.get("refused"):
        why = scrub(listed(sorted(set(refused.values()))))
        found.append(f"{plain_count(len(refused), 'move')} can't be undone: {why}.")
    return [
        *found,
        *_replaced(plan),
        *_consequences(plan),
        *_refilled(plan),
        *_pinned_there(plan),
        *_slow_there(plan),
        *_not_enough(plan),
    ]


def told(plan: Plan) -> list[str]:
    """Return all that a plan means besides its moves, what must be accepted first: for who has no page that shows that in red."""
    return [*(one.reason for one in objections.of(plan)), *of(plan)]


def ends(plan: Plan) -> list[str]:
    """Return until when, or by when, the order of a plan holds, one sentence each."""
    order = plan.order
    return [
        f"{word} {deadlines.told(datetime.fromisoformat(order[name]))}."
        for name, word in (("until", "Until"), ("by", "By"))
        if order.get(name)
    ]


def guessed(plan: Plan) -> Iterator[str]:
    """Say whether the loads of a plan are guesses, for who sees them."""
    nodes = Node.objects.filter(name__in=plan.nodes).values_list("pk", flat=True)
    if guesses := len(costs.told_of(nodes).assumed):
        of_all = costs.assumed() if guesses == len(plan.nodes) else ""
        yield of_all or f"The load of {plain_count(guesses, 'node')} is assumed."


def doubts(plan: Plan) -> list[str]:
    """Return what may be an error in the order of a plan that is carried out: that no node is what it aims at."""
    order = plan.order
    if order.get("verb") != "pin" or _fitting(pin := Pin(kind=order["kind"], aim=order["aim"])):
        return []
    return [_no_such_node(pin, _size(plan), waits=order["waits"])]


def _pinned_there(plan: Plan) -> Iterator[str]:
    """What becomes of configs that are pinned to the nodes of a drain."""
    if plan.order.get("verb") == "drain":
        moved = [move["config"] for move in plan.moves]
        pins = Pin.objects.filter(config__in=moved, kind=Pin.Kind.NODE, aim__in=plan.order["nodes"])
        if number := pins.count():
            yield f"{plain_count(number, 'config')} of it pinned there: back as soon as the node takes work again."


def _replaced(plan: Plan) -> list[str]:
    """What orders the plan takes the place of, or ends, with who gave them and until when they hold."""
    orders = None if plan.applied_at else plans.replaced_by(plan)
    words = forecasts.ENDS if plan.order.get("verb") == "resume" else "It takes the place of this"
    return [] if orders is None else ended(orders, words)


def _refilled(plan: Plan) -> Iterator[str]:
    """What runs nowhere now and would get the room that the moves of a plan leave. A drain leaves none."""
    if not plan.applied_at and plan.order.get("verb") != "drain":
        yield from told_refilled(refilled_after({move["config"]: move["to"] for move in plan.moves if move["source"]}))


def _slow_there(plan: Plan) -> Iterator[str]:
    """What the plan's loads leave out: what a slow node gets takes longer there."""
    slow = Slowness.objects.slow().filter(node__name__in={move["to_node"] for move in plan.moves} - {""})
    if names := sorted(slow.values_list("node__name", flat=True), key=natural):
        are = agreeing(len(names), "is", "are")
        yield f"{listed(names)} {are} slow: what moves there may take longer than it does now, and load it more than this says."


def _not_enough(plan: Plan) -> Iterator[str]:
    """Which nodes stay above 100 % by a rebalance, and what can follow it."""
    if plan.order or plan.applied_at or not plan.moves:
        return
    full = {name: load["after"] for name, load in plan.nodes.items() if load["after"] > 1}
    loads = costs.loads()
    others = Runner.objects.overloaded().exclude(node__name__in=plan.nodes).values_list("pk", "node__name")
    full |= {name: loads[pk] for pk, name in others if loads.get(pk, 0) > 1}
    if not full:
        return
    fullest = sorted(full, key=lambda name: -full[name])
    told = listed([f"{name} stays at {percent(full[name])}" for name in fullest[:NAMED]], None)
    more = f", and {plain_count(len(full) - NAMED, 'other node')} above 100 %" if len(full) > NAMED else ""
    yield f"These moves are not enough: {told}{more}."
    if len(plan.moves) >= dispatcher.budget():
        yield "It has as many moves as one may have: plan another one after it, or a rebalance without a limit of moves."
    yield (
        "Nothing follows by itself: balancing is off."
        if freezes.why_off()
        else f"Balancing goes on: {forecasts.rounds()}."
    )


def _consequences(plan: Plan) -> Iterator[str]:
    """The effects of an order besides its moves, one sentence each."""
    if tell := _TELLING.get(plan.order.get("verb", "")):
        yield from tell(plan.order, _size(plan))


def _size(plan: Plan) -> int:
    """How many configs an order is about, moved or not."""
    return len(plan.moves) + len(plan.order.get("also", ()))


def _pausing(order: dict[str, Any], number: int) -> Iterator[str]:
    if idle := len(order.get("also", ())):
        yield f"{plain_count(idle, 'config')} {agreeing(idle, 'runs', 'run')} nowhere already."


def _resuming(order: dict[str, Any], number: int) -> Iterator[str]:
    if left := len(order.get("also", ())):
        yield f"{plain_count(left, 'config')} would dangle: no node may have it now."


def _undoing(order: dict[str, Any], number: int) -> Iterator[str]:
    if not freezes.why_off():
        # An undone rebalance leaves the loads that it was made for.
        yield f"Balancing goes on and may move them, or others, again: {forecasts.rounds()}."


def _draining(order: dict[str, Any], number: int) -> Iterator[str]:
    if left := len(order.get("also", ())):
        yield f"{plain_count(left, 'config')} can go to no other node now, and would stay."
    yield "The nodes get nothing new from then on, and what they have moves bit by bit."


def _alone(order: dict[str, Any], number: int) -> Iterator[str]:
    one, their = ("it is", "its node") if len(order["alone"]) == 1 else ("they are", "their nodes")
    yield f"Until {one} released, nothing else is placed on {their}."
    if company := len({id_ for id_, *_ in order.get("also", ())} - set(order["alone"])):
        yield f"{plain_count(company, 'config')} may run nowhere else, and would stay."


def _giving(order: dict[str, Any], number: int) -> Iterator[str]:
    if left := len(order.get("also", ())):
        yield f"{plain_count(left, 'config')} would stay: on {order['node']} already."
    if not order["hold"]:
        are, them = agreeing(number, "It is", "They are"), agreeing(number, "it", "them")
        yield f"{are} not pinned: the next rebalance may move {them} away again."


def _pinning(order: dict[str, Any], number: int) -> Iterator[str]:
    """What becomes of what a pin does not move: because no such node is there, or takes it, or it is on one."""
    pin = Pin(kind=order["kind"], aim=order["aim"])
    fitting = _fitting(pin)
    if not fitting:
        yield _no_such_node(pin, number, waits=order["waits"])
        return
    owners = [row[2] for row in order.get("also", ())]
    right = sum(owner in fitting for owner in owners)
    nowhere = sum(not owner for owner in owners)
    if right:
        yield f"{plain_count(right, 'config')} would stay: on the right node already."
    if nowhere:
        runs, starts = agreeing(nowhere, "runs", "run"), agreeing(nowhere, "starts", "start")
        yield f"{plain_count(nowhere, 'config')} {runs} nowhere now, and {starts} there in a pass if such a node takes it."
    if left := len(owners) - right - nowhere:
        yield f"{plain_count(left, 'config')} would stay: no such node takes {agreeing(left, 'it', 'them')} now."


def _fitting(pin: Pin) -> set[int]:
    """The ids of the known nodes that a pin means."""
    known = Node.objects.known().values_list("pk", "name", "labels")
    return {pk for pk, name, labels in known if pin.matches(name, labels)}


def _no_such_node(pin: Pin, number: int, *, waits: bool) -> str:
    """What follows where no known node fits a pin, and which may be meant."""
    labels = dict(Node.objects.known().values_list("name", "labels"))
    runs, where = agreeing(number, "it runs", "they run"), "nowhere" if waits else "elsewhere"
    return f"There is no such node now: until there is one, {runs} {where}.{_meant(pin, labels)}"


def _meant(pin: Pin, labels: Mapping[str, Mapping[str, str]]) -> str:
    """A question about what a pin that no known node fits may be meant for; empty if nothing is nearly like it."""
    match pin.kind:
        case Pin.Kind.NODE:
            meant = nearest(pin.aim, list(labels))
        case Pin.Kind.LABEL:
            meant = nearest(pin.aim, {f"{label}={value}" for has in labels.values() for label, value in has.items()})
        case _:
            meant = _pattern_meant(pin.aim, labels)
    return f" Is it meant to be {meant}?" if meant else ""


def _pattern_meant(pattern: str, names: Collection[str]) -> str:
    """The pattern with the beginning of a node's name in place of its own, which is nearly like it; empty if none is."""
    wildcard = _WILDCARD.search(pattern)
    start = wildcard.start() if wildcard else len(pattern)
    # A letter may be missing, or be one too many.
    beginnings = {name[:length] for name in names for length in (start - 1, start, start + 1) if length > 0}
    fitting = {one for one in beginnings if any(fits(name, one + pattern[start:]) for name in names)}
    meant = nearest(pattern[:start], fitting)
    return meant + pattern[start:] if meant else ""


# What each verb has to say of an order of so many configs.
_TELLING: dict[str, Callable[[dict[str, Any], int], Iterator[str]]] = {
    "isolate": _alone,
    "pin": _pinning,
    "pause": _pausing,
    "resume": _resuming,
    "reassign": _giving,
    "undo": _undoing,
    "drain": _draining,
}
