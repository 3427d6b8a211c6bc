"""The order of moves: the greatest gain first, while no prefix of the moves raises a peak."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from checks.balancing.cluster import Cluster, Step, net
from checks.balancing.cohort import Cohort

Ranked = tuple[float, Step]


def in_order(
    cluster: Cluster, cohorts: Iterable[Cohort], steps: Sequence[Step], free: Collection[int], budget: float
) -> Iterator[Ranked]:
    """Yield (gain, step), at most one for each config, for steps that the cluster has made. Takes those steps back first.

    No gain exceeds the gain before it. Beyond the budget only free configs move.
    """
    cluster.undo(steps)
    ceilings = _ceilings(cluster, cohorts)
    waiting = _ranked(cluster, steps)
    for _, step in waiting:
        ceilings[step.to] = max(ceilings[step.to], cluster.utilization(step.to))
    cluster.undo(steps)
    least, before = waiting[0][0] if waiting else 0.0, 0
    while len(waiting) != before:
        before, ranked, waiting = len(waiting), waiting, []
        for gain, step in ranked:
            if cluster.room(step.to, ceilings[step.to]) < step.cost:
                # Another config must leave that node first.
                waiting.append((gain, step))
            elif budget > 0 or step.config in free:
                budget -= step.config not in free
                cluster.move(step)
                least = min(least, gain)
                yield least, step


def _ceilings(cluster: Cluster, cohorts: Iterable[Cohort]) -> dict[int, float]:
    """The highest utilization that each node may have meanwhile: the peak of its cohorts now."""
    ceilings: dict[int, float] = {}
    for cohort in cohorts:
        peak = max(map(cluster.utilization, cohort.nodes), default=0.0)
        ceilings |= {node: max(peak, ceilings.get(node, 0.0)) for node in cohort.nodes}
    return ceilings


def _ranked(cluster: Cluster, steps: Sequence[Step]) -> list[Ranked]:
    """Make the steps and rank the resulting moves. A move never precedes an earlier one from the same node, on which its gain
    depends.
    """
    gains: dict[int, float] = defaultdict(float)
    for step in steps:
        utilization = cluster.utilization(step.source)
        cluster.move(step)
        gains[step.config] += step.cost * (utilization - cluster.utilization(step.to))
    least: dict[int, float] = {}
    ranked = []
    for step in net(steps):
        gain = least[step.source] = min(gains[step.config], least.get(step.source, gains[step.config]))
        ranked.append((-gain, -step.config, step))
    return [(-negative, step) for negative, _, step in sorted(ranked)]
