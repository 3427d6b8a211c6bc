"""Pools: nodes whose names differ only in a generated suffix. Pure: no database."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from clusteragent.lib.words import grouped_count
from nodes.pools import pool_of

# What a node that others take the work of is called everywhere.
GOING = ("draining", "leaving", "restarting")
STATES = ("alive", "silent", "lost", *GOING)


class Member(NamedTuple):
    """A node of a pool. load: the workers that it needs, divided by those that it has. domain: its failure domain, or empty.

    is_assumed: whether its load is a guess. going: one of GOING, else empty; such a node is alive or silent besides.
    """

    id: int
    name: str
    state: str
    configs: int
    load: float
    domain: str = ""
    is_assumed: bool = False
    going: str = ""

    @property
    def how(self) -> str:
        """How it is, as its page says it: `alive, draining`."""
        return f"{self.state}, {self.going}" if self.going else self.state


@dataclass
class NodePool:
    """The nodes of one pool, and what the pages show of them."""

    name: str
    members: list[Member] = field(default_factory=list)

    @cached_property
    def _states(self) -> Counter[str]:
        """{state: number of nodes}, one that is going in both of its states. Read it when all nodes are in."""
        return Counter(state for member in self.members for state in (member.state, member.going) if state)

    @property
    def title(self) -> str:
        """The pool's name, or the node's own name if there is only one."""
        return self.members[0].name if len(self.members) == 1 else self.name

    @property
    def known(self) -> int:
        """The number of nodes that are not lost."""
        return len(self.members) - self._states["lost"]

    @property
    def staying(self) -> int:
        """The number of nodes that are not lost, and have not said that they leave."""
        return self.known - self._states["leaving"]

    @cached_property
    def configs(self) -> int:
        """The number of configs on all its nodes."""
        return sum(member.configs for member in self.members)

    @cached_property
    def idle(self) -> int:
        """The number of its nodes that have no config, without those that are lost."""
        return sum(not member.configs for member in self.members if member.state != "lost")

    @property
    def mean(self) -> float:
        """The mean load of the nodes that are not lost."""
        return sum(member.load for member in self.members if member.state != "lost") / (self.known or 1)

    @property
    def fullest(self) -> Member | None:
        """The node with the highest load; None if all are lost."""
        known = (member for member in self.members if member.state != "lost")
        return max(known, key=lambda member: member.load, default=None)

    @property
    def guessed(self) -> str:
        """What to say beside its load: `assumed`, `assumed of 2 nodes`, or nothing where all was measured."""
        loaded = [member.is_assumed for member in self.members if member.state != "lost" and member.configs]
        if not any(loaded):
            return ""
        return "assumed" if all(loaded) else f"assumed of {grouped_count(sum(loaded), 'node')}"

    def count(self, state: str) -> int:
        """The number of nodes in this state."""
        return self._states[state]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """[(state, number of nodes)] for each state."""
        return [(state, self.count(state)) for state in STATES]

    @property
    def troubled(self) -> int:
        """The number of nodes that are not simply alive."""
        return sum(member.how != "alive" for member in self.members)


def pools(members: Iterable[Member]) -> list[NodePool]:
    """Group the nodes into pools: those with trouble first, then the largest."""
    found: dict[str, NodePool] = {}
    for member in members:
        name = pool_of(member.name)
        found.setdefault(name, NodePool(name)).members.append(member)
    return sorted(found.values(), key=lambda pool: (-pool.troubled, -len(pool.members), pool.name))
