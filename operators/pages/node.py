"""A node's page: how it is, what it has, what happened to it, and what its loss would do."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from checks.dispatcher import costs
from checks.explain import loss as losing
from checks.models import Config, Move
from checks.wire.scrub import scrub
from clusteragent.lib.words import ago, counted, percent
from nodes.models import Node, NodeEvent, Runner, RunnerStats
from operators.admin.base import TABLE_ROWS, Table, anchor, link, list_url
from operators.admin.nodes import NodeWithConfigsAdmin, configs_of
from operators.pages import base

# Nodes that would get what a lost one has.
MOST_HEIRS = 10
# Stand in the page's head.
_IN_HEAD = (
    "name",
    "shown_state",
    "configs",
    "heard",
    "shown_type",
    "address",
    "up_to_date",
    "shown_schedulable",
    "looks_like",
)

admin.site.unregister(Node)


class Drain(NamedTuple):
    """How far a drain is. since: its beginning."""

    since: datetime | None
    moved: int
    left: int

    @property
    def share(self) -> float:
        return self.moved / (self.moved + self.left or 1)


@admin.register(Node)
class NodePageAdmin(NodeWithConfigsAdmin):
    change_form_outer_before_template = "operators/node_head.html"
    readonly_fields = NodeWithConfigsAdmin.fields
    actions: Any = (*NodeWithConfigsAdmin.actions, "forget")

    class Media:
        css = {"all": ["operators/pages.css"]}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return [name for name in self.fields if name not in _IN_HEAD]

    def row_actions(self, request: HttpRequest, node: Any) -> list[str]:
        return ["forget"] if node.state == "lost" else super().row_actions(request, node)

    def page(self, request: HttpRequest, node: Any) -> dict[str, Any]:
        load = None if node.state == "lost" else _load(node)
        return {"facts": _facts(node, load), "load": load, "drain": _drain(node) if node.draining else None}

    def tables(self, request: HttpRequest, node: Node) -> list[Table]:
        return [configs_of(node), _timeline(node)]

    @admin.action(description="Forget: take a lost node off the list", permissions=["change"])
    def forget(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        chosen = Node.objects.filter(pk__in=[node.pk for node in queryset])
        kept = [node.name for node in chosen.known()]
        forgotten = chosen.forget()
        if forgotten:
            messages.success(request, f"{counted(forgotten, 'node')} forgotten.")
        if kept:
            messages.error(request, f"{counted(len(kept), 'node')} not lost, so not forgotten.")


@base.fragment
def loss(request: HttpRequest, pk: int) -> HttpResponse:
    """What the node's loss would do: worked out only now, since it looks at all nodes."""
    node = get_object_or_404(Node.objects.known(), pk=pk)
    found = losing.of(node)
    context = {
        "loss": found,
        "moving": sum(found.placed.values()),
        "heirs": list(found.placed.items())[:MOST_HEIRS],
        "more": len(found.placed) - MOST_HEIRS,
    }
    return TemplateResponse(request, "operators/loss.html", context)


def _load(node: Any) -> float:
    """The workers that it needs, divided by those that it has."""
    return costs.by_node().get(node.pk, 0.0) / costs.workers()[node.pk]


def _facts(node: Any, load: float | None) -> list[tuple[str, Any]]:
    facts = [
        ("State", node.state if node.intake == "open" else f"{node.state}, {node.intake}"),
        ("Last heard", ago(node.silence)),
        ("Address", node.heartbeat.client_ip if load is not None else ""),
        ("Type", node.heartbeat.get_node_type_display() if load is not None else ""),
        ("Acknowledged", _acknowledged(node) if load is not None else ""),
        ("Load", "" if load is None else percent(load)),
        ("Checks", anchor(list_url(Config, node=node.name), counted(node.configs, "check"))),
        ("Running by its stats", _running(node)),
    ]
    shown = [(name, value or "unknown") for name, value in facts if load is not None or name in ("State", "Checks")]
    oddities = (("Looks like", node.looks_like()), ("Told what can't be", _clamped(node)))
    return shown + [(name, value) for name, value in oddities if value]


def _acknowledged(node: Any) -> str:
    """Which version of its configs it has fetched, against ours."""
    if node.heartbeat.acknowledged == node.config_version:
        return (
            f"version {node.config_version}, the last one" if node.config_version else "nothing yet: it had no checks"
        )
    return f"version {node.heartbeat.acknowledged}, not yet {node.config_version}"


def _running(node: Node) -> str:
    number = RunnerStats.objects.filter(node=node).count()
    return counted(number, "check") if number else ""


def _clamped(node: Node) -> str:
    return Runner.objects.filter(node=node).values_list("clamped", flat=True).first() or ""


def _drain(node: Any) -> Drain:
    began = NodeEvent.objects.filter(node_name=node.name, kind=NodeEvent.Kind.DRAINING).first()
    moves = Move.objects.filter(source_node=node.name, reason=Move.Reason.DRAINED)
    moved = moves.filter(time__gte=began.time).count() if began else 0
    return Drain(began.time if began else None, moved, node.configs)


def _timeline(node: Node) -> Table:
    """The last moves and events of a node, as one."""
    events = NodeEvent.objects.filter(node_name=node.name)[: TABLE_ROWS + 1]
    moves = Move.objects.filter(Q(source_node=node.name) | Q(to_node=node.name))[: TABLE_ROWS + 1]
    rows = [
        *((one.time, one.kind, "", one.told) for one in events),
        *(
            (one.time, _way(one, node.name), link(Config(pk=one.config_id), scrub(one.name)), _why(one))
            for one in moves
        ),
    ]
    rows.sort(key=lambda row: row[0], reverse=True)
    return Table.of("Timeline", ("time", "what", "check", "why"), rows, list_url(Move, q=node.name))


def _way(move: Move, name: str) -> str:
    if move.source_node == move.to_node:
        return "kept, with other bytes"
    if move.to_node == name:
        return f"got, from {move.source_node}" if move.source_node else "got"
    return f"gave, to {move.to_node}" if move.to_node else "lost"


def _why(move: Move) -> str:
    return f"{move.reason} by {move.actor}" if move.actor else move.reason
