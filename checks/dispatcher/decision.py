"""What an order or a rebalance would do, decided without a lock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

from checks.balancing import spread
from checks.dispatcher.transaction import Choice
from checks.models import ClusterStore, Cost
from nodes.models import Node, Runner

T = TypeVar("T")


class Placement(NamedTuple):
    """Where a config of a decision is and where it will be: on nodes source and to. They are the same if the config stays.

    source, to: nodes' ids, None for no node. from_node, to_node: their names. cost: in workers. gain: see PlannedMove.
    reason: a Move.Reason; empty for the decision's. why: see Move.why. title: how people call it.
    """

    config: int
    digest: str
    name: str
    source: int | None
    to: int | None
    from_node: str = ""
    to_node: str = ""
    cost: float = 0.0
    gain: float = 0.0
    reason: str = ""
    why: Mapping[str, Any] | None = None
    title: str = ""

    @property
    def moves(self) -> bool:
        """Whether the owner of the config changes."""
        return self.to != self.source


class Loads(NamedTuple):
    """The loads before and after the moves, as shares of capacity.

    nodes: of nodes that give or get a config, {name: {"before": load, "after": load}}. spread: over all nodes,
    {"peak": [before, after], "stddev": [before, after]}.
    """

    nodes: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, before: Mapping[T, float], after: Mapping[T, float], touched: Mapping[T, str]) -> Self:
        """Build it from the loads of all nodes, {key: load}, and the nodes that give or get a config, {key: name}."""
        was, becomes = spread(before.values()), spread(after.values())
        return cls(
            {
                touched[node]: {"before": before[node], "after": after[node]}
                for node in sorted(touched, key=touched.__getitem__)
            },
            {"peak": [was.peak, becomes.peak], "stddev": [was.stddev, becomes.stddev]},
        )


@dataclass(frozen=True)
class Decision:
    """What is to be done, and what was read for it. `commit` carries it out if each config that it places is as it was.

    reason: the Move.Reason of its moves. order: {"verb": name, **its arguments}, written along with the moves; empty for a
    rebalance. placements: the configs that stay come first. revision: the store's, when it was decided. known_loads: `loads`,
    if they were computed on the way. refused: of an undo, {move's id: why it can't be undone}. may_close: whether it is accepted
    that no node takes work then.
    """

    reason: str
    order: Mapping[str, Any]
    placements: Sequence[Placement]
    revision: int
    known_loads: Loads | None = None
    refused: Mapping[int, str] = field(default_factory=dict)
    may_close: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do: it concerns no config. A drain is never empty, as it cordons its nodes."""
        return not self.placements and self.verb != "drain"

    @property
    def verb(self) -> str:
        """The name of the order; empty for a rebalance."""
        return str(self.order.get("verb", ""))

    @cached_property
    def loads(self) -> Loads:
        """The loads before and after the moves. They are computed when first asked for, as that reads the cost of all configs."""
        if self.known_loads:
            return self.known_loads
        needed, capacity = Cost.objects.by_node(), Runner.objects.capacity()
        before = {pk: needed.get(pk, 0.0) / capacity[pk] for pk in capacity}
        after, names = dict(before), {}
        for one in self.moves:
            for pk, name, change in (one.source, one.from_node, -one.cost), (one.to, one.to_node, one.cost):
                if pk in after:
                    after[pk] += change / capacity[pk]
                    names[pk] = name
        return Loads.of(before, after, names)

    @property
    def moves(self) -> list[Placement]:
        """The placements of configs that get another owner, or lose theirs."""
        return [one for one in self.placements if one.moves]

    @property
    def dangling(self) -> list[Placement]:
        """The placements of configs that should have an owner and will have none."""
        waiting = (one for one in self.placements if one.to is None and self.verb != "pause")
        return [one for one in waiting if one.moves or self.verb == "resume"]


def make_decision(
    reason: str, order: Mapping[str, Any], choices: Sequence[Choice], *, refused: Mapping[int, str] | None = None
) -> Decision:
    """Return the decision that carries out these choices. Reads nodes' names, costs and the store's revision."""
    nodes = {node or 0 for choice in choices for node in (choice.entry.owner, choice.to)}
    names = dict(Node.objects.filter(pk__in=nodes).values_list("pk", "name"))
    expected = Cost.objects.expected([choice.entry.id for choice in choices])
    placements = [
        Placement(
            entry.id, entry.digest, entry.name, entry.owner, to, names.get(entry.owner or 0, ""), names.get(to or 0, ""),
            expected.get(entry.id, 0.0), reason="" if why == reason else why, why=entry.why,
            title=entry.shown,
        )
        for entry, to, why in choices
    ]  # fmt: skip
    placements.sort(key=lambda one: one.moves)
    return Decision(reason, order, placements, ClusterStore.objects.get().revision, refused=refused or {})
