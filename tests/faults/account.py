"""What the node agents ran, when and where, by their own clock: the other half of the truth beside the database's."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from simulation.agents import Observer, SimulatedNode
from simulation.client import Config


class Change(NamedTuple):
    """A node began (1) or ceased (-1) to run a check, at a time of `time.monotonic()`."""

    moment: float
    check: str
    node: str
    step: int


class Account(Observer):
    """Every start and stop of every check."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.failures: dict[str, list[str]] = defaultdict(list)

    def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
        now = time.monotonic()
        self.changes += [Change(now, config.label, node.name, -1) for config in stopped]
        self.changes += [Change(now, config.label, node.name, 1) for config in started]

    def contact_changed(self, node: SimulatedNode) -> None:
        if node.failure:
            self.failures[node.name].append(node.failure)

    def vanished(self, node: SimulatedNode) -> None:
        """It died without stopping anything in an orderly way."""
        self.checks_changed(node, [], [running.config for running in node.running.values()])

    def running(self) -> dict[str, int]:
        """How many nodes run each check that ever ran."""
        numbers: dict[str, int] = defaultdict(int)
        for change in list(self.changes):
            numbers[change.check] += change.step
        return numbers

    def doubled(self) -> int:
        """How many checks run on more than one node."""
        return sum(number > 1 for number in self.running().values())

    def loads(self) -> dict[str, int]:
        """How many checks each node runs."""
        numbers: dict[str, int] = defaultdict(int)
        for change in list(self.changes):
            numbers[change.node] += change.step
        return numbers

    def longest_gap(self, since: float) -> float:
        """The longest time since then that a check which had run before ran nowhere, in seconds."""
        return max([0.0, *(span.seconds for span in self._spans(since) if span.runners == 0)])

    def longest_double(self, since: float) -> float:
        """The longest time since then that a check ran on two nodes, in seconds."""
        return max([0.0, *(span.seconds for span in self._spans(since) if span.runners > 1)])

    def _spans(self, since: float) -> Iterator["Span"]:
        """Each time since then in which the number of a check's runners was the same."""
        by_check: dict[str, list[Change]] = defaultdict(list)
        for change in list(self.changes):
            by_check[change.check].append(change)
        now = time.monotonic()
        for changes in by_check.values():
            runners = 0
            for change, end in zip(changes, [*(later.moment for later in changes[1:]), now], strict=True):
                runners += change.step
                yield Span(runners, end - max(change.moment, since))


class Span(NamedTuple):
    """A check had so many runners for so long (below 0 s: before the time that is asked for)."""

    runners: int
    seconds: float
