"""What eligibility is judged on: the known nodes, which of them are reserved for isolated configs, and what they have."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache, reduce
from itertools import chain
from operator import or_
from types import MappingProxyType
from typing import NamedTuple

from django.db.models import BooleanField, Count, Exists, ExpressionWrapper, OuterRef, Q, TextField, Value
from django.db.models.functions import Cast, Concat

from checks.models import Assignment, Cost
from checks.models.costs import Means
from checks.models.orders import Isolation, Rule
from checks.models.titles import called
from clusteragent.lib import conf
from clusteragent.lib.patterns import fits
from nodes.models import Node, NodeType
from nodes.models.nodes import domain
from nodes.models.runners import capacity


class Candidate(NamedTuple):
    """A known node, with all that decides what it may run.

    declared: what it declares that it runs. capacity: in workers. own: its load of checks that we did not dispatch, in
    workers. limit: the most configs that it may have. intake, signal: see `Node.objects.with_signal`. domain: its failure
    domain, empty for a node without one.
    """

    id: int
    name: str
    labels: Mapping[str, str]
    declared: str
    is_runner: bool
    capacity: float = conf.DEFAULT_WORKERS
    own: float = 0.0
    limit: int | None = None
    intake: str = "open"
    signal: str = "heard"
    domain: str = ""


class Reserved(NamedTuple):
    """The isolated config that a node is reserved for. name: as people see it. why: the Isolation.Reason."""

    id: int
    name: str
    why: str


def read_nodes(names: Collection[str] | None = None) -> list[Candidate]:
    """Read all known nodes, or those with these names, in the order of their names.

    A node that reports no type is a runner if it reports its address.
    """
    known = Node.objects.with_signal() if names is None else Node.objects.with_signal().filter(name__in=names)
    # As text and as a yes or no: there are many nodes, and Django converts each JSON and each address by itself.
    columns = {
        "written_labels": Cast("labels", TextField()),
        "has_address": ExpressionWrapper(Q(heartbeat__client_ip__isnull=False), BooleanField()),
        "domain": domain(),
    }
    rows = known.annotate(**columns).order_by("name").values_list(
        "pk", "name", "written_labels", "declared", "heartbeat__node_type", "has_address", "weight", "runner__workers",
        "slowness__share", "runner__own_load", "max_configs", "intake", "signal", "domain",
    )  # fmt: skip
    return [
        Candidate(
            pk, name, _labels(labels), declared, kind == NodeType.RUNNER or (kind == NodeType.UNKNOWN and has_address),
            capacity(weight, workers, share), own or 0.0, *rest,
        )
        for pk, name, labels, declared, kind, has_address, weight, workers, share, own, *rest in rows
    ]  # fmt: skip


@lru_cache(maxsize=10_000)
def _labels(text: str) -> Mapping[str, str]:
    """The labels of a JSON text. Many nodes have the same."""
    return MappingProxyType(json.loads(text))


def read_reserved(*, without: Collection[int] = ()) -> dict[int, Reserved]:
    """Read the config that each node is reserved for, {node's id: config}: of several the one that was isolated first.

    without: the ids of configs that count as not isolated. Others leave no node for what somebody bound has isolated, so beside
    others it keeps none for itself, either.
    """
    others = Assignment.objects.filter(node=OuterRef("config__assignment__node")).exclude(config=OuterRef("config"))
    rows = Isolation.objects.filter(config__assignment__isnull=False).exclude(Q(bounded=True) & Exists(others))
    rows = rows.exclude(config__in=without).order_by("-pk")
    columns = "config__assignment__node", "config_id", "config__title", "config__name", "config__digest", "reason"
    return {
        node: Reserved(config, called(title, name, digest), why)
        for node, config, title, name, digest, why in rows.values_list(*columns)
    }


class Inventory:
    """What all nodes have, or those with these names. Each part is read when it is first needed: most refusals need none."""

    def __init__(self, names: Collection[str] | None = None) -> None:
        held = Assignment.objects.all()
        self._assignments = held if names is None else held.filter(node__name__in=names)

    @cached_property
    def held(self) -> dict[int, int]:
        """How many configs each node has: {node's id: number}."""
        return self._assignments.counts()

    @cached_property
    def needed(self) -> dict[int, float]:
        """What the configs of each node cost: {node's id: workers}. Of all nodes, whatever the names."""
        return Cost.objects.by_node()

    @cached_property
    def means(self) -> Means:
        """The mean costs, for configs that were not measured."""
        return Cost.objects.means()

    def held_by_rule(self, rules: Sequence[Rule]) -> dict[int, Counter[int]]:
        """How many configs each node has that a rule covers: {rule's id: {node's id: number}}."""
        found: dict[int, Counter[int]] = {rule.pk: Counter() for rule in rules}
        by_check = [rule for rule in rules if rule.source_pattern == "*"]
        for name, node, number in self._of_checks({rule.check_pattern for rule in by_check}):
            for rule in by_check:
                if rule.covers(name, ()):
                    found[rule.pk][node] += number
        by_origin = [rule for rule in rules if rule.source_pattern != "*"]
        # Several origins may send one config.
        owners: dict[int, dict[int, int]] = {rule.pk: {} for rule in by_origin}
        for config, node, name, origin in self._of_origins(by_origin) if by_origin else ():
            for rule in by_origin:
                if rule.covers(name, (origin,)):
                    owners[rule.pk][config] = node
        return found | {rule: Counter(nodes.values()) for rule, nodes in owners.items()}

    def held_by_checks(self, patterns: Mapping[int, Sequence[str]]) -> dict[int, Counter[int]]:
        """How many configs each node has of checks that patterns match: {rule's id: {node's id: number}}. patterns: of rules."""
        found: dict[int, Counter[int]] = {rule: Counter() for rule in patterns}
        for name, node, number in self._of_checks(set(chain.from_iterable(patterns.values()))):
            for rule, some in patterns.items():
                if any(fits(name, pattern) for pattern in some):
                    found[rule][node] += number
        return found

    def _of_checks(self, patterns: Collection[str]) -> Iterable[tuple[str, int, int]]:
        """Rows of (check, node's id, number of configs) of checks that these patterns may match."""
        if not patterns:
            return ()
        some = reduce(or_, (Q(config__name__startswith=_prefix(pattern)) for pattern in patterns))
        counted = self._assignments.filter(some).values_list("config__name", "node_id").annotate(Count("pk"))
        return counted.order_by()

    def _of_origins(self, rules: Sequence[Rule]) -> Iterable[tuple[int, int, str, str]]:
        """Rows of (config's id, owner's id, check, origin), one an origin, of configs that these rules may cover."""
        some = Q()
        for rule in rules:
            source = _prefix(rule.source_pattern)
            some |= Q(config__name__startswith=_prefix(rule.check_pattern), sent__startswith=source)
        sent = Concat("config__origins__source", Value(":"), "config__origins__key", output_field=TextField())
        held = self._assignments.annotate(sent=sent).filter(some)
        return held.values_list("config_id", "node_id", "config__name", "sent")


# PostgreSQL filters by the prefix of a pattern, Python by the whole pattern.
def _prefix(pattern: str) -> str:
    return re.split(r"[*?]", pattern, maxsplit=1)[0]
