"""Adopting a map: matching it with our configs, registering its nodes, and giving them what they run."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from checks import plans
from checks.adoption import outlook
from checks.adoption.bodies import Body, TooMuchToCompare
from checks.adoption.matching import Matching, Ours, match
from checks.adoption.outlook import Outlook
from checks.adoption.states import State
from checks.dispatcher import CHUNK, Decision
from checks.dispatcher.committing import ADOPT
from checks.dispatcher.decision import make_decision
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.inventory import Candidate
from checks.dispatcher.transaction import Choice, entries_of
from checks.explain.objections import Objection
from checks.models import Config, Move, Plan, Source
from checks.models.orders import Pause
from checks.models.titles import called
from clusteragent.lib import conf
from clusteragent.lib.traces import span
from nodes import registration
from nodes.models import Node, NodeRule
from nodes.models.heartbeats import EXTRA_HEARTBEAT, Report
from nodes.models.rules import ruled
from nodes.models.runners import capacity


class NotReady(Exception):
    """Nothing can be compared yet. The message says why."""


class Forecast(NamedTuple):
    """What adopting a map would do.

    new_nodes: those that did not report to us yet.
    """

    matching: Matching
    nodes: Sequence[str]
    new_nodes: Sequence[str]
    outlook: Outlook

    @property
    def objections(self) -> list[Objection]:
        """What must be accepted of it."""
        return outlook.objections(self.matching, self.outlook)


def forecast(state: State) -> Forecast:
    """Return what adopting this map would do. It only reads, and locks nothing. Raises NotReady."""
    matching = _match(state)
    new_nodes = unknown(state.nodes)
    snapshot = read_snapshot().with_nodes(without=(), new=_arriving(new_nodes))
    return Forecast(matching, sorted(state.nodes), new_nodes, outlook.look(matching, snapshot))


def adopt(state: State, *, actor: str, note: str = "") -> tuple[Matching, Plan]:
    """Register the nodes of this map and give them what they run. Returns what matched, and the plan that was applied.

    More than CHUNK configs are not atomic: what stopped it is in the plan's outcome, and adopting again does the rest. Raises
    NotReady and StalePlan.
    """
    _ours()
    names = sorted(state.nodes)
    with span("adopt", nodes=len(names)) as adopting:
        for start in range(0, len(names), CHUNK):
            register(names[start : start + CHUNK])
        matching = _match(state)
        adopting.set_attributes({"configs": len(matching.pairs)})
        plan, _ = plans.order(lambda: decide(matching, note=note), actor=actor)
    return matching, plan


def register(names: Iterable[str]) -> None:
    """Register those of these nodes that are unknown or lost, as if each had reported just now, without a word about itself."""
    reports = {name: Report(name, EXTRA_HEARTBEAT) for name in unknown(names)}
    if reports:
        registration.register(reports)


def unknown(names: Iterable[str]) -> list[str]:
    """Return those of these names that no known node has."""
    wanted = set(names)
    return sorted(wanted - set(Node.objects.known().filter(name__in=wanted).values_list("name", flat=True)))


def decide(matching: Matching, *, note: str = "") -> Decision:
    """Decide to give each matched config to the node that runs it."""
    nodes = dict(Node.objects.known().values_list("name", "pk"))
    to = {pair.ours.id: nodes[pair.node] for pair in matching.pairs if pair.node in nodes}
    entries = [entry for entry in entries_of(to) if entry.owner != to[entry.id]]
    # Configs of one node stand together, so that few nodes are cut in two by a chunk.
    entries.sort(key=lambda entry: (to[entry.id], entry.id))
    choices = [Choice(entry, to[entry.id], Move.Reason.ADOPTED) for entry in entries]
    return make_decision(Move.Reason.ADOPTED, {"verb": ADOPT, "note": note}, choices)


def _match(state: State) -> Matching:
    """Match the state with our configs. Raises NotReady."""
    try:
        return match(state, _ours())
    except TooMuchToCompare as error:
        raise NotReady(f"{error}: see that tags and cluster name are set as they are there") from error


def _ours() -> list[Ours]:
    """Our configs. Raises NotReady while there are none, or not all."""
    if waiting := list(Source.objects.awaited().order_by("name").values_list("name", flat=True)):
        raise NotReady(f"source {waiting[0]} was not read yet: run syncconfigs, or start runagent, and try again")
    paused = set(Pause.objects.filter(config__isnull=False).values_list("config_id", flat=True))
    rows = Config.objects.dispatchable().order_by("pk").values_list("pk", "title", "digest", "wire").iterator(CHUNK)
    found = [
        Ours(pk, digest, body, pk in paused, called(title, body.name, digest))
        for pk, title, digest, body in _readable(rows)
    ]
    if not found:
        raise NotReady("no source here has a config: run syncconfigs, or start runagent, and try again")
    return found


def _readable(rows: Iterable[tuple[int, str, str, Any]]) -> Iterator[tuple[int, str, str, Body]]:
    for pk, title, digest, wire in rows:
        yield pk, title, digest, Body.of(json.loads(bytes(wire)))


def _arriving(names: Collection[str]) -> Iterator[Candidate]:
    """Nodes that are unknown or lost, as they will be when they come: labelled by rules, and declaring what they did before."""
    rules = list(NodeRule.objects.order_by("pk"))
    declared = dict(Node.objects.filter(name__in=names).values_list("name", "declared"))
    for number, name in enumerate(names, 1):
        labels, weight, limit = ruled(rules, name)
        workers, domain = capacity(weight, None), labels.get(conf.DOMAIN_LABEL, "")
        yield Candidate(-number, name, labels, declared.get(name, ""), False, workers, limit=limit, domain=domain)
