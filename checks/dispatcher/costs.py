"""What configs cost, in workers that they keep busy: measured by the runners, expected of the rest."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from checks.models import Cost
from clusteragent.lib import conf
from nodes import statsclient
from nodes.models import Runner


class Means(NamedTuple):
    """What a config costs on average: of each check that was measured, and of all."""

    checks: dict[str, float]
    usual: float

    def of(self, check: str) -> float:
        """What to expect of a config of this check."""
        return self.checks.get(check, self.usual)


class Measured(NamedTuple):
    """A round of stats, and of how many configs and of how many nodes' own load it changed what they cost."""

    round: statsclient.Round
    configs: int
    nodes: int


def measure() -> Measured:
    """Ask all runners for their stats, and work out what configs cost. For a while, so never inside a transaction."""
    collected = statsclient.collect()
    return Measured(collected, Cost.objects.measure(), Cost.objects.measure_own_load())


def means() -> Means:
    """What to expect of configs that are new."""
    return Means(*Cost.objects.means())


def expected(config_ids: Collection[int] | None = None) -> dict[int, float]:
    """What these configs cost, or all that are dispatched: {id: workers}. Unmeasured ones cost what others do on average."""
    return Cost.objects.expected(config_ids)


def by_node() -> dict[int, float]:
    """The expected cost of all that each node has, and its load of checks that are not ours: {node's id: workers}."""
    return Cost.objects.by_node()


def largest_shares(configs: int, capacity: Mapping[str, float]) -> dict[str, int]:
    """How many of so many configs each node would get if it were of the greatest size that counts, and all cost the same.

    What runners tell of their checks is their word alone. One that tells that none of them takes any time looks idle,
    however many it has, so balancing gives no node more than these.
    """
    total = sum(capacity.values())
    sizes = {name: max(conf.RUNNER_MAX_WORKERS, one) for name, one in capacity.items()}
    return {name: math.ceil(configs * sizes[name] / (sizes[name] + total - one)) for name, one in capacity.items()}


def capacity() -> dict[int, float]:
    """What the load of each known node is divided by: its workers times its weight: {node's id: workers}."""
    return Runner.objects.capacity()


def loads(needed: Mapping[int, float] | None = None, able: Mapping[int, float] | None = None) -> dict[int, float]:
    """The load of each known node: {node's id: share of its capacity}.

    needed, able: by_node() and capacity(), where the caller has read them.
    """
    needed, able = by_node() if needed is None else needed, capacity() if able is None else able
    return {node: needed.get(node, 0.0) / workers for node, workers in able.items()}
