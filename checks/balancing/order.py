"""In which order to move: greatest gain first, and no peak ever higher than before."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from checks.balancing.cluster import Cluster, Step, net
from checks.balancing.cohort import Cohort

Ranked = tuple[float, Step]


def in_order(
    cluster: Cluster, cohorts: Iterable[Cohort], steps: Sequence[Step], free: Collection[int], budget: float
) -> Iterator[Ranked]:
    """What these steps, which the cluster has made, come to: at most one move a config, with its gain.

    A gain never exceeds that of the move before. Beyond the budget only what is free moves.
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
                # Something must leave that node first.
                waiting.append((gain, step))
            elif budget > 0 or step.config in free:
                budget -= step.config not in free
                cluster.move(step)
                least = min(least, gain)
                yield least, step


def _ceilings(cluster: Cluster, cohorts: Iterable[Cohort]) -> dict[int, float]:
    """How utilized each node may be on the way: as the busiest of its cohort is now."""
    ceilings: dict[int, float] = {}
    for cohort in cohorts:
        peak = max(map(cluster.utilization, cohort.nodes), default=0.0)
        ceilings |= {node: max(peak, ceilings.get(node, 0.0)) for node in cohort.nodes}
    return ceilings


def _ranked(cluster: Cluster, steps: Sequence[Step]) -> list[Ranked]:
    """Make the steps and rank what they come to; none is before an earlier one of its source, since it gains by that."""
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
