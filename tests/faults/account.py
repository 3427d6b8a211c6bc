"""Which node ran which check when, by the simulated node agents: to be compared with the database."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from simulation.agents import Observer, SimulatedNode
from simulation.client import Config


class Change(NamedTuple):
    """A node started (step 1) or stopped (step -1) a check. moment: of `time.monotonic()`."""

    moment: float
    check: str
    node: str
    step: int


class Account(Observer):
    """Records every start and stop of every check."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.failures: dict[str, list[str]] = defaultdict(list)

    def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
        """Record what the node started and stopped."""
        now = time.monotonic()
        self.changes += [Change(now, config.label, node.name, -1) for config in stopped]
        self.changes += [Change(now, config.label, node.name, 1) for config in started]

    def contact_changed(self, node: SimulatedNode) -> None:
        """Record the node's failure, if its last call failed."""
        if node.failure:
            self.failures[node.name].append(node.failure)

    def vanished(self, node: SimulatedNode) -> None:
        """Record that the node died, and all its checks with it."""
        self.checks_changed(node, [], [running.config for running in node.running.values()])

    def running(self) -> dict[str, int]:
        """Return {check: number of nodes that run it now}, for all checks that ever ran."""
        numbers: dict[str, int] = defaultdict(int)
        for change in list(self.changes):
            numbers[change.check] += change.step
        return numbers

    def doubled(self) -> int:
        """Return the number of checks that run on more than one node now."""
        return sum(number > 1 for number in self.running().values())

    def loads(self) -> dict[str, int]:
        """Return {node: number of checks that it runs now}."""
        numbers: dict[str, int] = defaultdict(int)
        for change in list(self.changes):
            numbers[change.node] += change.step
        return numbers

    def longest_gap(self, since: float) -> float:
        """Return the longest time in seconds, since `since`, that a check ran nowhere after it had run before."""
        return max([0.0, *(span.seconds for span in self._spans(since) if span.runners == 0)])

    def longest_double(self, since: float) -> float:
        """Return the longest time in seconds, since `since`, that a check ran on more than one node."""
        return max([0.0, *(span.seconds for span in self._spans(since) if span.runners > 1)])

    def _spans(self, since: float) -> Iterator["Span"]:
        """Yield the spans in which the number of a check's nodes was constant."""
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
    """A time in which a check ran on a constant number of nodes. Below 0 s: it ended before the time that was asked for."""

    runners: int
    seconds: float
