"""What configs cost, in workers that they keep busy: measured where runners report it, estimated elsewhere."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from checks.models import Assignment, Cost, Instance
from checks.models.costs import Held
from clusteragent.lib import conf
from nodes import slowness, statsclient
from nodes.models import Runner


class Measured(NamedTuple):
    """A round of stats. configs: how many costs it changed. nodes: how many nodes' own loads it changed."""

    round: statsclient.Round
    configs: int
    nodes: int


def measure() -> Measured:
    """Ask all runners for their stats, and store what configs cost. It takes seconds: never call it inside a transaction."""
    collected = statsclient.collect()
    return Measured(collected, Cost.objects.measure(), Cost.objects.measure_own_load())


def note_slow() -> list[str]:
    """Judge after a round of stats which nodes are slow, by what nobody pinned. Returns those that became slow or very slow.

    Whoever pins the longest checks to a node makes it no slower, and a pinned config would not leave a slow one.
    """
    pinned = Instance.objects.filter(config__pin__isnull=False)
    return slowness.note_round(list(pinned.values_list("check_id", flat=True)))


def largest_shares(configs: int, capacity: Mapping[str, float]) -> dict[str, int]:
    """The most configs that balancing gives to each node: {node's name: number}. capacity: {node's name: workers}.

    It is the share of a node if it had RUNNER_MAX_WORKERS workers and all configs cost the same. Costs are what runners
    report and can't be verified: a runner that reports no run time looks idle, however many configs it has.
    """
    total = sum(capacity.values())
    sizes = {name: max(conf.RUNNER_MAX_WORKERS, one) for name, one in capacity.items()}
    return {name: math.ceil(configs * sizes[name] / (sizes[name] + total - one)) for name, one in capacity.items()}


def loads(needed: Mapping[int, float] | None = None, able: Mapping[int, float] | None = None) -> dict[int, float]:
    """The load of each known node: {node's id: share of its capacity}.

    needed, able: the results of Cost.objects.by_node() and Runner.objects.capacity(), if the caller has them.
    """
    needed = Cost.objects.by_node() if needed is None else needed
    able = Runner.objects.capacity() if able is None else able
    return {node: needed.get(node, 0.0) / workers for node, workers in able.items()}


class Told(NamedTuple):
    """The loads of nodes as people are told of them. shares: as of `loads`. assumed: of which nodes they are guesses."""

    shares: dict[int, float]
    assumed: set[int]


def told(held: Mapping[int, Held] | None = None, able: Mapping[int, float] | None = None) -> Told:
    """The load of each known node, and whether it is a guess.

    held, able: the results of Cost.objects.held() and Runner.objects.capacity(), if the caller has them.
    """
    held = Cost.objects.held() if held is None else held
    shares = loads({node: one.workers for node, one in held.items()}, able)
    return Told(shares, {node for node, one in held.items() if one.is_assumed})


def told_of(nodes: Collection[int]) -> Told:
    """What `told` tells of those of these nodes that are known. nodes: ids."""
    shares, assumed = told(Cost.objects.held(nodes))
    return Told({node: shares[node] for node in nodes if node in shares}, assumed)


def assumed() -> str:
    """What to say beside loads while they are guesses, as a sentence; empty once a config was measured."""
    if Cost.objects.exists() or not Assignment.objects.exists():
        return ""
    why = "no runner's stats can be read" if Runner.objects.unread().exists() else "no runner has told stats yet"
    return f"Loads are assumed, a worker for each config: {why}."


def note_overloaded() -> None:
    """Note which nodes are above 100 % after a round of stats, by what was measured: guesses wake nobody."""
    shares, guesses = told()
    Runner.objects.note_overloaded([node for node, load in shares.items() if load > 1 and node not in guesses])
