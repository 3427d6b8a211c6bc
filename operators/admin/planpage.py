"""What a plan says of itself: in sentences, in red, in tables, and the words of what takes it back."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checks.explain import consequences, drains, objections
from checks.models import Config, Plan, freezes
from checks.models.titles import called
from checks.wire.scrub import scrub
from clusteragent.lib.words import natural, percent, plain_count
from nodes.models import Node, UnknownNode
from operators.admin.base import Table, first_of, link
from operators.admin.questions import word_of, word_of_configs

MOST_MOVES = 200
MOST_NODES = 100
# The most nodes of a drain that are told one by one.
MOST_DRAINED = 5
# What takes a plan back, by its verb. Ending a drain is cordoning's, and what was resumed is paused anew.
UNDOES = dict.fromkeys(("", "reassign", "pin", "isolate", "undo", "adopt"), "Undo…") | {
    "pause": "Resume what it paused…"
}


def done(plan: Plan, moved: int) -> str:
    """What applying the plan did or began. moved: the number of configs."""
    if plan.order.get("verb") == "drain":
        return (
            f"begun, {plain_count(len(plan.moves), 'config')} to move bit by bit"
            if plan.moves
            else "begun, nothing to move"
        )
    verb = {"pause": "paused", "resume": "resumed"}.get(plan.order.get("verb"), "moved")
    return f"{plain_count(moved, 'config')} {verb}"


def notes(plan: Plan) -> Sequence[str]:
    """What an operator should know before applying the plan, one sentence each; of an applied one until when it holds."""
    found = [f"Note: {scrub(plan.order['note'])}"] if plan.order.get("note") else []
    if plan.applied_at:
        return [*found, *consequences.ends(plan)]
    found += [*consequences.of(plan), *consequences.guessed(plan)]
    if plan.order.get("verb") == "undo" and not freezes.why_off():
        freeze = reverse("admin:checks_freeze_add")
        found.append(
            format_html('<a class="underline" href="{}">Freeze it first</a> where nothing shall move.', freeze)
        )
    return found


def progress(plan: Plan) -> Iterator[str]:
    """How far an applied drain is, a sentence for each of its first nodes."""
    nodes = plan.order["nodes"] if plan.order.get("verb") == "drain" else ()
    for name in nodes[:MOST_DRAINED]:
        try:
            drain = drains.of(name)
        except UnknownNode as gone:
            yield f"{gone}."
            continue
        moved = f", {plain_count(drain.moved, 'config')} moved since" if drain.moved else ""
        said = drain.sentence
        yield f"{said[0].upper()}{said[1:]}{moved}."
        yield from (f"{reason}." for reason in drain.reasons)
    if len(nodes) > MOST_DRAINED:
        yield f"And {plain_count(len(nodes) - MOST_DRAINED, 'node')} more."


def typed_word(plan: Plan) -> str:
    """What must be typed to apply a plan by which configs that should run would not, or no node would take work; else empty.

    Of a drain it is its node, of others the config, or its check.
    """
    if plan.order.get("verb") == "drain":
        return word_of(plan.order["nodes"], "node") if objections.of(plan) else ""
    return word_of_configs(
        [
            (called(move.get("title", ""), move["name"], move["digest"]), move["name"])
            for move in consequences.without_node(plan)
        ]
    )


def tables(plan: Plan) -> list[Table]:
    """What would run nowhere by the plan, the nodes whose load it changes, and its moves."""
    loads = sorted(plan.nodes.items(), key=lambda node: -abs(node[1]["after"] - node[1]["before"]))
    nodes = [(name, percent(load["before"]), percent(load["after"])) for name, load in loads[:MOST_NODES]]
    left = plan.staying() if plan.order.get("verb") == "resume" else []
    shown = Config.objects.told_apart([(one["config"], one["title"], one["name"], one["digest"]) for one in left])
    dangling = [(link(Config(pk=one["config"]), name),) for one, name in zip(left, shown, strict=True)]
    moves = _in_order(plan)[:MOST_MOVES]
    configs = Config.objects.told_apart(
        [(move["config"], move.get("title", ""), move["name"], move["digest"]) for move in moves]
    )
    return [
        *([Table.of("Would run nowhere", ("config",), dangling)] if dangling else []),
        Table(first_of("Nodes", len(nodes), len(loads)), ("node", "load before", "load after"), nodes),
        Table(
            first_of("Moves", len(moves), len(plan.moves)),
            # A drain moves them bit by bit, and chooses anew each time.
            ("config", "from", "to, as foreseen" if plan.order.get("verb") == "drain" else "to"),
            [_route(move, config) for move, config in zip(moves, configs, strict=True)],
        ),
    ]


def undoing(plan: Plan, way: str) -> str:
    """The words of the button that takes an applied plan back this way."""
    return "Unpin what it pinned…" if way == "unpin" else UNDOES[plan.order.get("verb", "")]


def _in_order(plan: Plan) -> Sequence[dict[str, Any]]:
    """A plan's moves: of a rebalance those that gain most first, of an order by name."""
    if not plan.order:
        return plan.moves
    return sorted(plan.moves, key=lambda move: natural(called(move.get("title", ""), move["name"], move["digest"])))


def _route(move: dict[str, Any], config: str) -> list[SafeString | str]:
    ends = ((move["source"], move["from_node"]), (move["to"], move["to_node"]))
    return [
        link(Config(pk=move["config"]), config),
        *(link(Node(pk=pk), name) if pk else "nobody" for pk, name in ends),
    ]
