"""What a node's page shows around its fields: its state, its configs, its timeline."""

from collections.abc import Collection
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checks.dispatcher import costs
from checks.explain import alerts, drains
from checks.models import Config, Move
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.words import duration, grouped_count, load_in_words, percent, utc
from nodes.models import Node, NodeEvent, NodeType, Pod, Runner, RunnerStats, Slowness
from nodes.runnercertificates import written
from operators.admin.base import TABLE_ROWS, Table, aged, anchor, by_load, dated, link, list_url
from operators.pages.remedies import Line, lines

# How often the page of a node that is being drained is fetched again.
REFRESH_SECONDS = 5


def context(node: Any) -> dict[str, Any]:
    """The context of the template operators/node_head.html."""
    loads, assumed = costs.told_of([node.pk])
    node.load, node.is_assumed = loads.get(node.pk), node.pk in assumed
    return {
        "facts": _facts(node),
        "load": node.load,
        "drain": drains.of_row(node) if node.draining else None,
        "at": node.now,
        "refresh": REFRESH_SECONDS,
    }


def needs(request: HttpRequest, node: Any) -> list[Line]:
    """That the node is overloaded, as the first page says it, with its buttons; nothing if it is not."""
    return lines(alerts.of_overload(node.now, node.pk), request.user)


def last_reports(names: Collection[str]) -> dict[str, NodeEvent]:
    """What is known of lost nodes: {name: its last expiry}."""
    expiries = NodeEvent.objects.filter(node_name__in=names, kind=NodeEvent.Kind.EXPIRED)
    return {event.node_name: event for event in expiries.order_by("node_name", "-id").distinct("node_name")}


def last_type(expiry: NodeEvent | None) -> str:
    """The type that a lost node had; empty if that was not noted."""
    return "" if expiry is None or expiry.node_type is None else str(NodeType(expiry.node_type).label)


def told_load(node: Any) -> SafeString:
    """The load of a node that has `load` and `is_assumed`, linked to what makes it, with a sign above 100 %."""
    # The link is all of it: beside other text its colour alone would tell it.
    shown = anchor(by_load(node.name), load_in_words(node.load, is_assumed=node.is_assumed))
    # A guess alarms nobody.
    if node.load > 1 and not node.is_assumed:
        shown = format_html('<span class="load-over" title="more than its workers can do">{}</span>', shown)
    return shown


def timeline(node: Node) -> Table:
    """A table of the node's last moves and events, merged."""
    events = NodeEvent.objects.filter(node_name=node.name).annotate(now=Now())[: TABLE_ROWS + 1]
    moves = Move.objects.filter(Q(source_node=node.name) | Q(to_node=node.name)).annotate(now=Now())[: TABLE_ROWS + 1]
    about = Config.objects.filter(digest__in={one.digest for one in events} - {""})
    configs = about.values_list("pk", "title", "name", "digest")
    told = [(one.config_id, one.title, one.name, one.digest) for one in moves]
    names = Config.objects.told_apart([*told, *configs])
    named = {
        digest: link(Config(pk=pk), name) for (pk, _, _, digest), name in zip(configs, names[len(told) :], strict=True)
    }
    found: list[tuple[Any, tuple[Any, ...]]] = []
    event: Any
    one: Any
    for event in events:
        config = named.get(event.digest, "")
        line = (dated(event.time, event.now), event.kind, config, "" if config else event.told)
        found.append((event.time, line))
    for one, name in zip(moves, names, strict=False):
        why = f"{one.reason} by {one.actor}" if one.actor else one.reason
        line = (dated(one.time, one.now), _way(one, node.name), link(Config(pk=one.config_id), name), why)
        found.append((one.time, line))
    rows = [line for _, line in sorted(found, key=lambda line: line[0], reverse=True)]
    return Table.of("Timeline", ("time", "what", "config", "why"), rows, list_url(Move, q=node.name))


def _facts(node: Any) -> list[tuple[str, Any]]:
    """The facts as (name, value). Of a lost node, which has no load, they are of its last report."""
    state = ("State", node.state if node.intake == "open" else f"{node.state}, {node.intake}")
    configs = ("Configs", anchor(list_url(Config, node=node.name), grouped_count(node.configs, "config")))
    known = [state, *_of_loss(node), configs] if node.state == "lost" else [state, configs]
    runner = Runner.objects.filter(node=node).first()
    if node.load is not None:
        running = RunnerStats.objects.filter(node=node).count()
        checks = grouped_count(running, "check ID")
        told = (
            format_html("{}, {}", checks, aged(runner.stats_at, node.now)) if runner and runner.stats_at else "unknown"
        )
        if runner and runner.failures:
            told = format_html("{}: {}", told, scrub(runner.error))
        known = [
            state,
            ("Last heard", aged(node.heartbeat.seen_at, node.now)),
            ("Address", node.heartbeat.client_ip or "unknown"),
            ("Type", node.heartbeat.get_node_type_display()),
            *([("Domain", node.domain)] if node.domain else []),
            ("Acknowledged", _acknowledged(node)),
            ("Load of all workers", told_load(node)),
            *([("Assumed", assumed)] if (assumed := costs.assumed()) else []),
            configs,
            ("Running by its stats", told),
        ]
    pod = Pod.objects.filter(node=node).first()
    slowness = Slowness.objects.filter(node=node, node__heartbeat__isnull=False).first()
    slow = ("Pace", _pace(slowness) if slowness and slowness.state else "")
    handed = ("Hands over", grouped_count(node.handing, "config") if node.handing else "")
    oddities = (
        ("Pod", pod.told if pod else ""), slow, handed, ("Looks like", node.looks_like()),
        ("Implausible stats", runner.clamped if runner else ""), *(_certificates(runner) if runner else ())
    )  # fmt: skip
    return known + [(name, value) for name, value in oddities if value]


def _of_loss(node: Any) -> list[tuple[str, Any]]:
    """When and why it was lost, and what it last said of itself, as far as an older version noted that."""
    last = last_reports([node.name]).get(node.name)
    found = [("Lost", dated(node.lost_at, node.now))]
    if last is None:
        return found
    heard = dated(last.heard_at, node.now) or "not noted"
    address = last.address or "unknown"
    type_ = last_type(last) or "unknown"
    return [*found, ("Why", _why(last)), ("Last heard", heard), ("Address", address), ("Type", type_)]


def _why(expiry: NodeEvent) -> str:
    """Why a node was given up, in words."""
    words = {
        "": f"it was silent for longer than {duration(conf.NODE_EXPIRATION_TIMEOUT)}",
        NodeEvent.ANNOUNCED: "it said goodbye, and fell silent",
        NodeEvent.ANNOUNCED_GONE: "it said goodbye, and its pod is gone",
    }
    return words.get(expiry.cause, scrub(expiry.cause))


def _certificates(runner: Runner) -> list[tuple[str, str]]:
    """The certificate that is kept of its runner, and another one that it shows."""
    if not (conf.RUNNER_CERTIFICATES_PINNED and runner.certificate and runner.certificate_since):
        return []
    kept = f"{written(runner.certificate)}, kept since {utc(runner.certificate_since)}"
    other = f"{written(runner.other_certificate)}, so it is sent nothing" if runner.other_certificate else ""
    return [("Certificate", kept), ("Shows another certificate", other)]


def _pace(slowness: Slowness) -> str:
    """Since when it is slow, why, and what it is given."""
    since = f" since {utc(slowness.since)}" if slowness.since else ""
    given = f"; it is given {percent(slowness.share)} of its share" if slowness.share < 1 else ""
    return f"{slowness.state}{since}: {slowness.sentence}{given}"


def _acknowledged(node: Any) -> str:
    """The version of its configs that the node fetched, against the current one."""
    if node.heartbeat.acknowledged == node.config_version:
        return (
            f"version {node.config_version}, the last one" if node.config_version else "nothing yet: it had no configs"
        )
    return f"version {node.heartbeat.acknowledged}, not yet {node.config_version}"


def _way(move: Move, name: str) -> str:
    if move.source_node == move.to_node:
        return "kept, with other bytes" if move.reason == Move.Reason.CHANGED else "kept alone"
    if move.to_node == name:
        return f"got, from {move.source_node}" if move.source_node else "got"
    return f"gave, to {move.to_node}" if move.to_node else "lost"
