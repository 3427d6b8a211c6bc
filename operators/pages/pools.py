"""Pools: nodes whose names differ only in a generated suffix. Pure: no database."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from clusteragent.lib.words import grouped_count

# The characters of Kubernetes' generated names: no vowels, and no digits that look like letters.
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
_SUFFIX = re.compile(
    rf"""(?: -{_SAFE}{{6,10}}-{_SAFE}{{5}}  # a pod of a Deployment
    | -{_SAFE}{{5}}  # a pod of a DaemonSet
    | -[0-9a-f]{{8,}}(?:-[0-9a-z]{{4}})?  # a machine of a cloud, or of GKE
    | (?:[-_.]?\d+)+  # an ordinal, or an address: ip-10-1-2-3
    )\Z""",
    re.VERBOSE,
)
# What a node that others take the work of is called everywhere.
GOING = ("draining", "leaving", "restarting")
STATES = ("alive", "silent", "lost", *GOING)


@lru_cache(maxsize=50_000)
def pool_of(name: str) -> str:
    """The name without its generated suffix: `runner-6d4cf56db6-x7k2p` and `runner-12` belong to `runner-*`."""
    host, dot, domain = name.partition(".")
    if host.isdigit():
        return name  # an IP address
    match = _SUFFIX.search(host)
    if not match or not match.start():
        return name
    dash = host[match.start()] if host[match.start()] in "-_" else ""
    return f"{host[: match.start()]}{dash}*{dot}{domain}"


class Member(NamedTuple):
    """A node of a pool. load: the workers that it needs, divided by those that it has. domain: its failure domain, or empty.

    is_assumed: whether its load is a guess.
    """

    id: int
    name: str
    state: str
    configs: int
    load: float
    domain: str = ""
    is_assumed: bool = False


@dataclass
class NodePool:
    """The nodes of one pool, and what the pages show of them."""

    name: str
    members: list[Member] = field(default_factory=list)

    @cached_property
    def _states(self) -> Counter[str]:
        """{state: number of nodes}. Read it when all nodes are in."""
        return Counter(member.state for member in self.members)

    @property
    def title(self) -> str:
        """The pool's name, or the node's own name if there is only one."""
        return self.members[0].name if len(self.members) == 1 else self.name

    @property
    def known(self) -> int:
        """The number of nodes that are not lost."""
        return len(self.members) - self._states["lost"]

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
        return len(self.members) - self.count("alive")


def pools(members: Iterable[Member]) -> list[NodePool]:
    """Group the nodes into pools: those with trouble first, then the largest."""
    found: dict[str, NodePool] = {}
    for member in members:
        name = pool_of(member.name)
        found.setdefault(name, NodePool(name)).members.append(member)
    return sorted(found.values(), key=lambda pool: (-pool.troubled, -len(pool.members), pool.name))
