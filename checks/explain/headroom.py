"""Headroom: how much the other nodes would have to do if a failure domain were lost, by arithmetic.

The leader works it out with each round of stats, since it reads the whole map; whoever tells it says of when it is.

It is about means: the others share what is lost, by their capacities. Left out are pins, rules about origins, the most that rules
let a node have, and how configs fit. What a loss would really do is simulated by `loss`.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count

from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.inventory import Candidate
from checks.models import Assignment, Cost, TaskRun
from clusteragent.lib.words import grouped_count, percent, utc
from nodes.models.nodes import domain as domain_of
from nodes.models.nodes import named_domain

HEADROOM = "headroom"
# Sums of loads are not exact.
ROUNDING = 1e-9


class Headroom(NamedTuple):
    """What the loss of a failure domain would mean, or of the node `node` where there is no domain to lose.

    configs: how many it has. reach: the mean load of the others after it, as a share of their capacity; infinite if there are
    none, None before costs are measured. homeless: how many of its configs no other node may have or has room for. other: the
    name of the others if it is one node. at: when that was so; None: now.
    """

    domain: str
    node: str
    configs: int
    reach: float | None
    homeless: int
    other: str = ""
    at: datetime | None = None

    @property
    def is_short(self) -> bool:
        """Whether the others could not do all of its work."""
        return self.homeless > 0 or (self.reach or 0) > 1 + ROUNDING

    @property
    def lost(self) -> str:
        """What is lost, as people read it: `zone b`, or the node's name."""
        return self.node or named_domain(self.domain)

    @property
    def document(self) -> dict[str, Any]:
        """As JSON data. `reach` is null before costs are measured, and where there are no others."""
        reach = None if self.reach == math.inf else self.reach
        as_of = self.at.isoformat() if self.at else None
        return {
            "lost": self.lost, "reach": reach, "homeless": self.homeless, "sentence": self.sentence, "as_of": as_of
        }  # fmt: skip

    @property
    def sentence(self) -> str:
        """`If zone b is lost, the others reach 84 % on average.` Empty where nothing is to be said before costs are measured."""
        configs = grouped_count(self.homeless, "config")
        if self.reach == math.inf:
            return f"If {self.lost} is lost, no node takes its {configs}."
        homeless = f"{configs} {'has' if self.homeless == 1 else 'have'} no node" if self.homeless else ""
        share = "" if self.reach is None else percent(self.reach)
        reach = f"{self.other} reaches {share}" if self.other else f"the others reach {share} on average"
        said = ", and ".join(filter(None, (reach if share else "", homeless)))
        return f"If {self.lost} is lost, {said}." if said else ""

    def dated(self, now: datetime) -> str:
        """The sentence with its time: `If zone b is lost, the others reach 84 % on average (as of 08:00 UTC).` Empty like it."""
        said = self.sentence
        return f"{said[:-1]} (as of {utc(self.at, now)})." if said and self.at else said


@dataclass
class _Sums:
    """Of some nodes that take work: their capacity and load in workers, and for how many more configs they have room."""

    capacity: float = 0.0
    load: float = 0.0
    room: float = 0.0
    without_limit: int = 0
    nodes: int = 0

    def add(self, node: Candidate, load: float, held: int, sign: int = 1) -> None:
        """Count one more node, or with sign -1 one fewer."""
        self.nodes += sign
        self.capacity += sign * node.capacity
        self.load += sign * load
        if node.limit is None:
            self.without_limit += sign
        else:
            self.room += sign * max(0, node.limit - held)


def note() -> list[Headroom]:
    """Work out what each loss would mean, store it, and return it. Call it once a round of stats, by the leader."""
    began = time.monotonic()
    losses = read()
    TaskRun.objects.note(HEADROOM, time.monotonic() - began, result=json.dumps([one[:6] for one in losses]))
    return losses


def noted() -> list[Headroom]:
    """Return what `note` stored last, the worst first; nothing if it never did."""
    run = TaskRun.objects.filter(name=HEADROOM).first()
    return [Headroom(*one)._replace(at=run.ended_at) for one in json.loads(run.result)] if run else []


def worst() -> Headroom | None:
    """Return the worst loss as `note` stored it; None if there was no other node, or nothing could be lost."""
    return next(iter(noted()), None)


def read() -> list[Headroom]:
    """Work out what the loss of each failure domain would mean, the worst first; without domains, of the worst single node."""
    snapshot = read_snapshot()
    if not snapshot.open:
        return []
    by_domain: dict[str, list[Candidate]] = {}
    for node in snapshot.nodes:
        by_domain.setdefault(node.domain, []).append(node)
    if len(by_domain) > 1:
        homeless = _bound_to(snapshot)
        named = {(domain, ""): nodes for domain, nodes in by_domain.items() if domain}
        return sorted(
            _judged(snapshot, named, homeless), key=lambda one: (-one.homeless, -(one.reach or 0), one.domain)
        )
    alone = {("", node.name): [node] for node in snapshot.nodes}
    if len(alone) == 1:
        return []
    return [max(_judged(snapshot, alone, {}), key=lambda one: (one.homeless, one.reach or 0, one.configs))]


def _judged(
    snapshot: Snapshot, parts: Mapping[tuple[str, str], Sequence[Candidate]], bound: Mapping[str, int]
) -> Iterator[Headroom]:
    """What the loss of each of these parts would mean. parts: {(domain, node's name): its nodes}. bound: see `_bound_to`."""
    held, needed, is_measured = snapshot.held, snapshot.inventory.needed, Cost.objects.exists()
    open_nodes = [node for node in snapshot.nodes if node.id in snapshot.open]
    # While a runner lives, node agents get nothing new.
    everybody, runners = _Sums(), _Sums()
    for node in open_nodes:
        everybody.add(node, needed.get(node.id, 0.0), held[node.id])
        if snapshot.has_runners and node.is_runner:
            runners.add(node, needed.get(node.id, 0.0), held[node.id])
    for (domain, name), nodes in parts.items():
        others, other_runners = replace(everybody), replace(runners)
        for node in nodes:
            if node.id in snapshot.open:
                others.add(node, needed.get(node.id, 0.0), held[node.id], -1)
                if snapshot.has_runners and node.is_runner:
                    other_runners.add(node, needed.get(node.id, 0.0), held[node.id], -1)
        are_runners = other_runners.capacity > ROUNDING
        takers = other_runners if are_runners else others
        configs = sum(held[node.id] for node in nodes)
        lost = sum(max(0.0, needed.get(node.id, 0.0) - node.own) for node in nodes)
        if takers.capacity <= ROUNDING:
            yield Headroom(domain, name, configs, math.inf if configs else 0.0, configs)
            continue
        room = math.inf if takers.without_limit else takers.room
        homeless = bound.get(domain, 0)
        homeless += max(0, configs - homeless - int(min(room, configs)))
        reach = (takers.load + lost) / takers.capacity if is_measured else None
        gone = {node.id for node in nodes}
        left = (node.name for node in open_nodes if node.id not in gone and (node.is_runner or not are_runners))
        yield Headroom(domain, name, configs, reach, homeless, next(left) if takers.nodes == 1 else "")


def _bound_to(snapshot: Snapshot) -> dict[str, int]:
    """How many configs each domain has that no node of another domain may run: {domain: number}."""
    if snapshot.is_plain:
        return {}
    # Many nodes, but few that differ in what decides.
    alike = {
        (node.domain, node.declared, tuple(sorted(node.labels.items()))): node
        for node in snapshot.nodes
        if node.id in snapshot.open
    }
    able: dict[str, set[str]] = {}
    found: dict[str, int] = {}
    of_checks = Assignment.objects.annotate(domain=domain_of("node__")).values_list("config__name", "domain")
    for check, domain, number in of_checks.annotate(Count("pk")).order_by():
        if check not in able:
            able[check] = {node.domain for node in alike.values() if snapshot.may_run(check, node)}
        if not able[check] - {domain}:
            found[domain] = found.get(domain, 0) + number
    return found
