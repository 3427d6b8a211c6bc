"""Slow is not dead: nodes whose checks take longer than the same checks elsewhere, or that miss polls now and then.

Such a node gets a notice; one that is very slow is given less, step by step, until its checks are as quick as others' or it has
a quarter of its share. ADR 19 says how slowness is told from checks that differ by nature.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import NormalDist, median
from typing import NamedTuple

import structlog
from django.db import transaction
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Heartbeat, MissedPolls, Node, NodeEvent, RunLength, Runner, RunnerStats, Slowness
from nodes.models.hearing import LATE
from nodes.models.runners import QUICK, RunTimes
from nodes.models.slowness import Missed

# In a cluster whose nodes are alike, one that is taken for slow by chance may be found in so many rounds.
BY_CHANCE = 0.001
# What ends a state is below what begins it, by this factor.
CALM = 0.8
# So many checks that left a node correct its factor by what they take elsewhere.
MOVED = 3
# Polls missed in ten minutes that make a node slow or very slow, and those up to which it stays so.
MISSED = {Slowness.SLOW: 3, Slowness.VERY: 12}
STILL_MISSED = {Slowness.SLOW: 1, Slowness.VERY: 6}
# A state begins and ends after so many rounds in a row.
ROUNDS = 2
# A node is given less, or more again, by at most this part each round, and never less than LEAST of its share. Each change of
# direction halves the part; it doubles again when SAME_WAY rounds went the same way. Below LEAST_STEP the share rests, until
# RESTS rounds in a row want the same.
STEP, LEAST_STEP, LEAST = 0.2, 0.02, 0.25
SAME_WAY, RESTS = 10, 60
# When more of the nodes than this, but at least two, are overdue at once, it is not they.
MANY_OVERDUE = 0.1

log = structlog.get_logger()


class Pace(NamedTuple):
    """How many times as long a node's checks take as elsewhere.

    checks: how many were compared. others: with how many nodes, by the check that most run. is_sure: chance does not explain it.
    """

    factor: float
    checks: int
    others: int
    is_sure: bool


class Relief(NamedTuple):
    """What a slow node is given.

    share: of its capacity. step, heading, steps: how it last changed, see Slowness. discount: what its run times are divided by.
    """

    share: float = 1.0
    step: float = STEP
    heading: int = 0
    steps: int = 0
    discount: float = 1.0


# Measuring. Pure.


def compare(runs: Iterable[RunTimes]) -> dict[int, Pace]:
    """Compare nodes' run times with those of the same checks on other nodes: {node's id: pace}, of the nodes in `runs`.

    A check's ratio is the node's median time by the median of the other nodes' medians, so that one node that lies or has very
    many instances weighs no more than another. The factor is the least of two medians of these ratios: with each instance
    counted, and with each check counted once. So neither a single odd check nor a few odd instances make a node slow. It is
    sure when the ranks of its run times, check by check, are too high for a node that got its instances by chance
    (a Mann-Whitney test, over all checks together).
    """
    by_node: dict[int, list[RunTimes]] = defaultdict(list)
    for one in runs:
        by_node[one.node_id].append(one)
    return {node: _pace(found) for node, found in by_node.items()}


def _pace(found: Sequence[RunTimes]) -> Pace:
    ratios = [(one.median / one.usual, one.number) for one in found]
    surplus = sum(one.ranks - one.number * (one.total + 1) / 2 for one in found)
    variance = sum(one.number * (one.total - one.number) * (one.total + 1) / 12 for one in found)
    least = NormalDist().inv_cdf(1 - BY_CHANCE / found[0].compared)
    return Pace(
        min(_low_median(ratios), _low_median([(ratio, 1) for ratio, _ in ratios])),
        sum(one.number for one in found),
        max(one.others for one in found),
        surplus >= least * math.sqrt(variance),
    )


def _low_median(weighted: Iterable[tuple[float, int]]) -> float:
    """The greatest value that more than half of the weight reaches. weighted: (value, weight)."""
    ordered = sorted(weighted, reverse=True)
    half, reached = sum(weight for _, weight in ordered) / 2, 0
    for value, weight in ordered:
        reached += weight
        if reached > half:
            return value
    return 0.0


# Judging. Pure.


def relieve(now: Relief, way: int, factor: float | None) -> Relief:
    """Return the next relief: the share gets less (way -1), more (way 1), or stays (0). factor: see Pace; None: unknown.

    Costs are measured on the node that has the config. Undiscounted, they would fall with each config that leaves a node that is
    slow under load, and rise with each that comes: the planner would move the same configs to and fro.
    """
    share, step, heading, steps = _next_share(now, way)
    wanted = factor if factor is not None and share < 1 else 1.0
    most, least = max(now.discount / (1 - STEP), 1 / share), now.discount * (1 - STEP)
    return Relief(share, step, heading, steps, max(1.0, least, min(wanted, most)))


def _next_share(now: Relief, way: int) -> tuple[float, float, int, int]:
    share, step, heading, steps, _ = now
    if not way or share == (1.0 if way > 0 else LEAST):
        return share, step, heading, steps
    if way == heading:
        steps += 1
        if steps % (SAME_WAY if step >= LEAST_STEP else RESTS) == 0:
            step = min(STEP, step * 2)
    else:
        # It went too far: fewer checks make the node faster, and more of them slower.
        step, steps = max(LEAST_STEP / 2, step / 2) if heading else step, 1
    if step < LEAST_STEP:
        return share, step, way, steps
    return max(LEAST, share * (1 - step)) if way < 0 else min(1.0, share / (1 - step)), step, way, steps


def level_after(level: int, rounds: int, reaches: int, keeps: int) -> tuple[int, int]:
    """Return the level and the rounds after another one: a level begins and ends after ROUNDS rounds in a row.

    reaches: the level that the round is enough to begin. keeps: the level that it is enough to keep.
    """
    wanted, way = (reaches, 1) if reaches > level else (keeps, -1) if keeps < level else (level, 0)
    rounds = way and (rounds + way if rounds * way > 0 else way)
    return (wanted, 0) if abs(rounds) >= ROUNDS else (level, rounds)


def _reached(pace: Pace | None, missed: int, *, was_sure: bool) -> tuple[int, int]:
    """The level that a round is enough to begin, and the one that it is enough to keep.

    was_sure: an earlier round was. By the lengths of its checks, which are known since then, chance can't be told.
    """
    reaches = keeps = 0
    for level, least in ((Slowness.SLOW, conf.SLOW_NOTICE), (Slowness.VERY, conf.SLOW_RELIEF)):
        if not least or (level == Slowness.VERY and not conf.SLOW_NOTICE):
            continue
        if (pace and pace.factor >= least and (pace.is_sure or was_sure)) or missed >= MISSED[level]:
            reaches = level
        if (pace and pace.factor >= least * CALM) or missed > STILL_MISSED[level]:
            keeps = level
    return reaches, keeps


# Verbs.


def note_missed() -> int:
    """Store the polls that nodes missed up to now. Returns of how many nodes. Called in each pass.

    Not those that said goodbye. While silence says little (just after we were deaf, under the brake), while nobody's report
    was written, or while many are overdue at once, it is not the nodes: what was stored of these moments is deleted, too.
    """
    overdue = Heartbeat.objects.overdue().filter(node__in=Node.objects.expected())
    rows = list(overdue.annotate(now=Now()).values_list("pk", "seen_at", "interval", "now"))
    if not rows:
        return 0
    many = max(1.0, Heartbeat.objects.count() * MANY_OVERDUE)
    latest = Heartbeat.objects.order_by("-seen_at").values_list("seen_at", flat=True).first()
    if len(rows) > many or Hearing.objects.disturbed().exists():
        MissedPolls.objects.filter(seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT)).delete()
        return 0
    missed = [
        Missed(pk, seen_at, int((now - seen_at - LATE) / interval))
        for pk, seen_at, interval, now in rows
        if latest and seen_at + interval < latest
    ]
    if missed:
        MissedPolls.objects.note(missed)
    return len(missed)


def note_round(placed: Collection[str] = ()) -> list[str]:
    """Judge all known nodes by the last stats and the missed polls, and return the names of those that became slow or very slow.

    placed: check IDs that people gave their nodes. They say nothing of a node, which did not get them by chance. It sets what
    each is given, too. Call it once a round of stats, by the leader.
    """
    MissedPolls.objects.prune()
    RunLength.objects.prune()
    missed = MissedPolls.objects.counts()
    known = {*Slowness.objects.values_list("pk", flat=True), *missed}
    # Not in the transaction, which must not be idle while thousands of nodes are compared.
    runs = RunnerStats.objects.run_times(conf.SLOW_NOTICE, known, placed) if conf.SLOW_NOTICE else []
    paces = compare(runs)
    found = _judge(_corrected(paces, runs), missed)
    _note_lengths(paces, runs)
    return found


def _corrected(paces: Mapping[int, Pace], runs: Iterable[RunTimes]) -> dict[int, Pace]:
    """Correct the factors of nodes by what their former checks take elsewhere: where that is less than their lengths say, the
    node is slower, and where it is more, it was rather the checks.

    Each is compared with those of its kind that are left. What is usual elsewhere would mislead: what has moved raises it. Each
    node that took checks has one vote, whatever it tells.
    """
    left = {(one.node_id, one.kind): one.median for one in runs}
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for node, kind, milliseconds, taker in RunLength.objects.moved(QUICK):
        if milliseconds and (node, kind) in left:
            found[node][taker].append(left[node, kind] / milliseconds)
    factors = {
        node: median(map(median, takers.values()))
        for node, takers in found.items()
        if sum(map(len, takers.values())) >= MOVED
    }
    return {node: pace._replace(factor=factors.get(node, pace.factor)) for node, pace in paces.items()}


def _note_lengths(paces: Mapping[int, Pace], runs: Iterable[RunTimes]) -> None:
    """Note how long the checks of nodes are that are slow, may be, or are given less: uncorrected, as those noted before."""
    judged = set(Slowness.objects.exclude(level=0, rounds=0, share=1).values_list("pk", flat=True))
    factors = {node: pace.factor for node, pace in paces.items() if node in judged and pace.factor}
    usual = [(one.node_id, one.kind, one.usual * factors[one.node_id]) for one in runs if one.node_id in factors]
    RunLength.objects.note(usual, QUICK)


@transaction.atomic
def _judge(paces: Mapping[int, Pace], missed: Mapping[int, int]) -> list[str]:
    """Note what a round found. paces, missed: of nodes, by id. Returns the names of nodes that became slow or very slow."""
    Slowness.objects.exclude(node__in=Heartbeat.objects.values("pk")).delete()
    rows = {row.pk: row for row in Slowness.objects.order_by("pk").select_for_update()}
    # What is known of a node whose runner does not answer is old.
    unheard = set(Runner.objects.filter(failures__gt=0).values_list("node", flat=True))
    suspects = {node for node, pace in paces.items() if conf.SLOW_NOTICE and pace.factor >= conf.SLOW_NOTICE}
    judged = {node: rows.get(node) or Slowness(node_id=node) for node in {*rows, *suspects, *missed} - unheard}
    before = {node: row.level for node, row in judged.items()}
    reached = {node: _measure(row, paces.get(node), missed.get(node, 0)) for node, row in judged.items()}
    are_many = are_too_many(sum(row.level == Slowness.VERY for row in judged.values()))
    for node, row in judged.items():
        _relieve(row, *reached[node], are_many=are_many)
    idle = [node for node, row in judged.items() if _says_nothing(row)]
    Slowness.objects.filter(pk__in=idle).delete()
    kept = [row for node, row in sorted(judged.items()) if node not in idle]
    fields = [field.name for field in Slowness._meta.concrete_fields if not field.primary_key]
    Slowness.objects.bulk_create(kept, update_conflicts=True, unique_fields=["node"], update_fields=fields)
    return _tell(judged, before)


def are_too_many(very_slow: int) -> bool:
    """Whether so many nodes are very slow at once that the cause is not the nodes: none is given less then."""
    return bool(conf.BRAKE_FRACTION) and very_slow > 1 and very_slow > Heartbeat.objects.count() * conf.BRAKE_FRACTION


def _measure(row: Slowness, pace: Pace | None, missed: int) -> tuple[int, int]:
    """Set what a round measured, and the level that follows. Returns what it reaches and keeps, see `level_after`."""
    row.factor, row.checks, row.others = pace[:3] if pace else (None, 0, 0)
    row.missed = missed
    reached = _reached(pace, missed, was_sure=bool(row.level or row.rounds or row.share < 1))
    was_slow = row.level > 0
    row.level, row.rounds = level_after(row.level, row.rounds, *reached)
    if (row.level > 0) != was_slow:
        row.since = Now() if row.level else None
    return reached


def _relieve(row: Slowness, reaches: int, keeps: int, *, are_many: bool) -> None:
    """Set what the node is given."""
    is_too_slow = row.level == reaches == Slowness.VERY
    way = (0 if are_many else -1) if is_too_slow else 1 if keeps < Slowness.VERY else 0
    now = Relief(row.share, row.step, row.heading, row.steps, row.discount)
    row.share, row.step, row.heading, row.steps, row.discount = relieve(now, way, row.factor)


def _says_nothing(row: Slowness) -> bool:
    return not (row.level or row.rounds or row.missed) and row.share == row.discount == 1


def _tell(judged: Mapping[int, Slowness], before: Mapping[int, int]) -> list[str]:
    """Note the events of nodes whose level changed. Returns the names of those that became slow or very slow."""
    changed = {node for node, row in judged.items() if row.level != before[node]}
    names = dict(Node.objects.filter(pk__in=changed).order_by("name").values_list("pk", "name"))
    worse = {name: judged[node].sentence for node, name in names.items() if judged[node].level > before[node]}
    over = {name: judged[node].sentence for node, name in names.items() if not judged[node].level}
    NodeEvent.objects.note_each(NodeEvent.Kind.SLOW, worse)
    NodeEvent.objects.note_each(NodeEvent.Kind.SLOW_NO_MORE, over)
    for name, why in worse.items():
        log.warning("node_slow", node=name, why=why)
    return list(worse)
