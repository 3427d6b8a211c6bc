"""What configs cost, in workers that they keep busy: measured where runners report it, estimated elsewhere."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from checks.models import Cost
from clusteragent.lib import conf
from nodes import statsclient
from nodes.models import Runner


class Means(NamedTuple):
    """The mean cost of a config, in workers. checks: {check: mean of its configs}. usual: the mean over all checks."""

    checks: dict[str, float]
    usual: float

    def of(self, check: str) -> float:
        """The expected cost of a config of this check, in workers."""
        return self.checks.get(check, self.usual)


class Measured(NamedTuple):
    """A round of stats. configs: how many costs it changed. nodes: how many nodes' own loads it changed."""

    round: statsclient.Round
    configs: int
    nodes: int


def measure() -> Measured:
    """Ask all runners for their stats, and store what configs cost. It takes seconds: never call it inside a transaction."""
    collected = statsclient.collect()
    return Measured(collected, Cost.objects.measure(), Cost.objects.measure_own_load())


def means() -> Means:
    """The mean costs, for configs that were not measured yet."""
    return Means(*Cost.objects.means())


def expected(config_ids: Collection[int] | None = None) -> dict[int, float]:
    """The cost of these configs, or of all that are dispatched: {config's id: workers}. Unmeasured ones have the mean cost."""
    return Cost.objects.expected(config_ids)


def by_node() -> dict[int, float]:
    """The cost of all configs of each node, plus its load of checks that we did not dispatch: {node's id: workers}."""
    return Cost.objects.by_node()


def largest_shares(configs: int, capacity: Mapping[str, float]) -> dict[str, int]:
    """The most configs that balancing gives to each node: {node's name: number}. capacity: {node's name: workers}.

    It is the share of a node if it had RUNNER_MAX_WORKERS workers and all configs cost the same. Costs are what runners
    report and can't be verified: a runner that reports no run time looks idle, however many configs it has.
    """
    total = sum(capacity.values())
    sizes = {name: max(conf.RUNNER_MAX_WORKERS, one) for name, one in capacity.items()}
    return {name: math.ceil(configs * sizes[name] / (sizes[name] + total - one)) for name, one in capacity.items()}


def capacity() -> dict[int, float]:
    """The capacity of each known node, its workers times its weight: {node's id: workers}."""
    return Runner.objects.capacity()


def loads(needed: Mapping[int, float] | None = None, able: Mapping[int, float] | None = None) -> dict[int, float]:
    """The load of each known node: {node's id: share of its capacity}.

    needed, able: the results of by_node() and capacity(), if the caller has them.
    """
    needed, able = by_node() if needed is None else needed, capacity() if able is None else able
    return {node: needed.get(node, 0.0) / workers for node, workers in able.items()}
