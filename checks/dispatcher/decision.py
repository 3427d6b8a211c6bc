"""What an order or a rebalance would do, worked out without a lock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

from checks.balancing import spread
from checks.dispatcher import costs
from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import Choice
from checks.models import ClusterStore
from nodes.models import Node

T = TypeVar("T")


class Step(NamedTuple):
    """A config that a decision is about: who has it, and who gets it. Both are the same where it stays.

    source, to: nodes' ids. cost: in workers. reason: a Move.Reason, the decision's unless given. why: see Move.why.
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

    @property
    def moves(self) -> bool:
        """Whether its owner changes."""
        return self.to != self.source


class Loads(NamedTuple):
    """How loaded nodes are before and after: each that is touched, by its name, and how it is spread over all, as in Plan."""

    nodes: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, before: Mapping[T, float], after: Mapping[T, float], touched: Mapping[T, str]) -> Self:
        """Of these loads of all nodes, and the names of those that are touched."""
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
    """What is to be done, and what was read for it. `commit` does it if each config of the steps is as it was.

    order: what is written along with the moves, as {"verb": …, the verb's arguments}; empty for a rebalance.
    steps: those that stay come first. known_loads: see `loads`, where they are known already.
    refused: what was asked for and can't be done, with the reason; of an undo, by the move's id.
    """

    reason: str
    order: Mapping[str, Any]
    steps: Sequence[Step]
    revision: int
    known_loads: Loads | None = None
    refused: Mapping[int, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do: it is about no config. A drain cordons nodes that have none, too."""
        return not self.steps and self.verb != "drain"

    @property
    def verb(self) -> str:
        """What is ordered; empty for a rebalance."""
        return str(self.order.get("verb", ""))

    @cached_property
    def loads(self) -> Loads:
        """The load before and after. It takes a look at all configs, so it is worked out for those who ask."""
        return self.known_loads or _loads(self.moves)

    @property
    def moves(self) -> list[Step]:
        """The configs that get another owner, or lose theirs."""
        return [step for step in self.steps if step.moves]

    @property
    def dangling(self) -> list[Step]:
        """The configs that should have an owner and would have none."""
        waiting = (step for step in self.steps if step.to is None and self.verb != "pause")
        return [step for step in waiting if step.moves or self.verb == "resume"]


def make_decision(
    reason: str, order: Mapping[str, Any], choices: Sequence[Choice], *, refused: Mapping[int, str] | None = None
) -> Decision:
    """The decision that makes these choices."""
    names = dict(Node.objects.values_list("pk", "name"))
    expected = costs.expected([choice.entry.id for choice in choices])
    steps = [_step(choice, names, expected, reason) for choice in choices]
    steps.sort(key=lambda step: step.moves)
    return Decision(reason, order, steps, ClusterStore.objects.get().revision, refused=refused or {})


def _step(choice: Choice, names: Mapping[int, str], expected: Mapping[int, float], reason: str) -> Step:
    entry, to, why = choice.entry, choice.to, choice.reason
    return Step(
        entry.id, entry.digest, entry.name, entry.owner, to, names.get(entry.owner or 0, ""), names.get(to or 0, ""),
        expected.get(entry.id, 0.0), reason="" if why == reason else why, why=entry.why,
    )  # fmt: skip


def _loads(moves: Iterable[Step]) -> Loads:
    needed, capacity = costs.by_node(), costs.capacity()
    before = {pk: needed.get(pk, 0.0) / capacity[pk] for pk in capacity}
    after, names = dict(before), {}
    for step in moves:
        for pk, name, change in (step.source, step.from_node, -step.cost), (step.to, step.to_node, step.cost):
            if pk in after:
                after[pk] += change / capacity[pk]
                names[pk] = name
    return Loads.of(before, after, names)


def to_choices(steps: Iterable[Step], entries: Mapping[int, Entry], reason: str) -> list[Choice]:
    """The steps as they are written: `entries` are their configs as they are now."""
    found = []
    for step in steps:
        entry = entries[step.config]
        entry.why = dict(step.why) if step.why else None
        found.append(Choice(entry, step.to, step.reason or reason))
    return found
