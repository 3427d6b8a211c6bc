"""How much nodes are utilized, and how evenly."""

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from clusteragent.lib import conf

D = TypeVar("D", bound=Hashable)
N = TypeVar("N", bound=Hashable)


class Spread(NamedTuple):
    """The highest utilization of a set of nodes, and the population standard deviation of all."""

    peak: float
    stddev: float


def utilization(
    costs: Mapping[D, float],
    owners: Mapping[D, N],
    capacity: Mapping[N, float],
    base: Mapping[N, float] | None = None,
) -> dict[N, float]:
    """Return {node: utilization}: the workers that its configs and `base` need, divided by its capacity.

    costs: {config: workers}. owners: {config: node}. capacity: {node: workers}, DEFAULT_WORKERS for 0. base: {node: workers}
    for other load.
    """
    needed = {node: [(base or {}).get(node, 0.0)] for node in capacity}
    for digest, node in owners.items():
        if node in needed:
            needed[node].append(costs.get(digest, 0.0))
    return {node: math.fsum(needed[node]) / (capacity[node] or conf.DEFAULT_WORKERS) for node in capacity}


def spread(utilizations: Iterable[float]) -> Spread:
    """Return the peak and the standard deviation; both are 0 without nodes."""
    values = list(utilizations)
    if not values:
        return Spread(0.0, 0.0)
    mean = math.fsum(values) / len(values)
    return Spread(max(values), math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)))
