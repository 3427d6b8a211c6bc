"""Alerts about configs: what dangles, how checks run, and what sources took away."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Min, Q, QuerySet

from checks import dispatcher
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain import failures
from checks.explain.alerts.cluster import why_none_accepts
from checks.explain.alerts.kinds import LATELY, NAMED, Alert, Kind, Target, configs_of, some
from checks.explain.why import commonest
from checks.models import Assignment, Config, Move
from checks.models.configs import ConfigQuerySet
from checks.models.troubles import Trouble, error_line
from checks.sources.guards import HELD_FROM
from checks.sources.sync import ACTOR
from checks.wire.scrub import scrub
from clusteragent.lib.clock import ago
from clusteragent.lib.words import grouped, grouped_count, listed, milliseconds, plain_count
from nodes.models import Node
from nodes.models.hearing import is_stale
from nodes.models.runners import TWO_ROUNDS

# More new failures than this share of what runs, and this many, have a common cause.
MANY_FAILING, FEWEST_FAILING = 0.1, 5

# A check of which more than this share, and this many configs, are not run by their nodes.
MANY_NOT_RUNNING, FEWEST_NOT_RUNNING = 0.5, 5

# More configs than this share of all that a source took away, without a hold.
SHARE_REMOVED = 0.2

# Of so many failing configs, those that have failed longest, the errors are read.
_LOOKED_AT = 200

_TROUBLES = {
    Kind.FAILING: "The last run of {} failed.",
    Kind.NOT_RUNNING: "{}: not among the checks that its node runs.",
    Kind.SLOW: "{}: a run takes longer than the time between two, so it runs less often than it should.",
}


def of_configs(hearing: Any) -> Iterator[Alert]:
    """Configs that no node has."""
    groups = Config.objects.dangling().order_by().values_list("unscheduled")
    for unscheduled, count, since in groups.annotate(Count("pk"), Min("dangling_since")):
        kind = Kind.UNSCHEDULED if unscheduled else Kind.DANGLING
        group = Config.objects.filter(unscheduled=unscheduled)
        yield Alert(
            kind, count, _why_dangling(hearing, group), Target.rows(Config, owner="dangling"), hearing.now, since
        )


def _why_dangling(hearing: Any, group: ConfigQuerySet) -> str:
    if is_stale(hearing):
        return "No background pass runs that could place them."
    if not Node.objects.accepting().exists():
        return why_none_accepts()
    oldest = group.dangling().order_by("dangling_since", "pk").values_list("pk", flat=True)
    snapshot = read_snapshot()
    entries = entries_of(list(oldest[:1]))
    snapshot.read_origins(entries)
    # None when it was placed meanwhile.
    for entry in entries:
        refusals = [snapshot.refusal(entry, node) for node in snapshot.nodes if not snapshot.node_refusal(node)]
        reasons = Counter(str(why) for why in refusals if why)
        if refusals and reasons.total() == len(refusals):
            return f"No node may run {entry.name}: {commonest(reasons)}."
    if group.lost_since(ago(dispatcher.NO_PILE_UP)).exists():
        return "Their node is gone and the others are as full as they may get at once: they follow within a minute."
    return f"The nodes that may run {entries[0].name} have no room." if entries else "They are about to be placed."


def of_checks(now: datetime) -> Iterator[Alert]:
    """Alerts from the stats that runners returned in the last round."""
    # An agent that has just restarted has no stats yet of checks that it will run.
    current = Trouble.objects.current().filter(~Q(kind=Kind.NOT_RUNNING) | Q(since__lt=ago(TWO_ROUNDS)))
    kinds = current.order_by().values_list("kind").annotate(Count("pk"), Min("since"))
    for trouble, count, since in kinds:
        if trouble == Kind.SLOW_EVERYWHERE:
            yield _slow_everywhere(count, since, now)
        elif trouble in _TROUBLES:
            yield _of_trouble(Kind(trouble), current.filter(kind=trouble), count, since, now)


def _of_trouble(kind: Kind, troubles: QuerySet[Trouble], count: int, since: datetime, now: datetime) -> Alert:
    """The alert about these troubles, which are of one kind."""
    target = Target.rows(Config, trouble=str(kind))
    said = _failing(count) if kind == Kind.FAILING else ""
    said = said or _TROUBLES[kind].format(configs_of(troubles, count))
    kind, many = _many(kind, troubles)
    return Alert(kind, count, " ".join(filter(None, (many, said))), target, now, since)


def _failing(count: int) -> str:
    """Which of so many failing configs fail with which error; empty if nothing is told of them any more."""
    found = failures.read(_LOOKED_AT, NAMED)
    if not found.told:
        return ""
    said = [f"{'' if number else 'The last run '}of {_error_of(one, number)}" for number, one in enumerate(found.told)]
    shown = {config.pk for one in found.told for config in one.configs}
    rest, errors = max(count - len(shown), 0), found.number - len(found.told)
    if found.is_cut and rest:
        said.append(f"{grouped(rest)} more fail")
    elif errors:
        said.append(f"{f'of {grouped(rest)} more: ' if rest else ''}{grouped_count(errors, 'other error')}")
    return f"{'; '.join(said)}."


def _error_of(failure: failures.Failure, number: int) -> str:
    """The configs of a failure, the first of them by name, and their error. number: its own; the first has the verb."""
    configs = failure.configs
    names = [failure.named(one) for one in configs[:NAMED]]
    more = [f"{grouped(len(configs) - NAMED)} more"] if len(configs) > NAMED else []
    error = error_line(failure.example).rstrip(".")
    such_as = ", such as" if failure.differs else ""
    return f"{listed([*names, *more], None)}{'' if number else ' failed'}{such_as}: {error}"


def _many(kind: Kind, troubles: QuerySet[Trouble]) -> tuple[Kind, str]:
    """The kind of an alert about these troubles, a graver one where so many have a common cause, and a sentence for that."""
    if kind == Kind.FAILING:
        return _began_to_fail(troubles)
    if kind == Kind.NOT_RUNNING:
        found = troubles.order_by("config__name").values_list("config__name").annotate(Count("pk"))
        idle = {name: number for name, number in found if number >= FEWEST_NOT_RUNNING}
        owned = Assignment.objects.filter(config__name__in=idle).order_by("config__name")
        of = dict(owned.values_list("config__name").annotate(Count("pk"))) if idle else {}
        most = [name for name, number in idle.items() if number > of.get(name, 0) * MANY_NOT_RUNNING]
        if most:
            said = some(f"{idle[name]} of {plain_count(of.get(name, 0), 'config')} of {scrub(name)}" for name in most)
            return Kind.MANY_NOT_RUNNING, f"No node runs {said}."
    return kind, ""


def _began_to_fail(troubles: QuerySet[Trouble]) -> tuple[Kind, str]:
    """Whether many that ran well began to fail. What fails in the first stats that are read may have failed for ever."""
    # With what is paused: whoever pauses checks that work makes nothing worse.
    running = Config.objects.dispatchable().filter(dangling_since=None).count()
    ran_well = Q(last_good__gte=F("since") - LATELY)
    lately = troubles.filter(since__gte=ago(LATELY))
    new, ran = lately.aggregate(new=Count("pk"), ran=Count("pk", filter=ran_well)).values()
    if _are_many(ran, running):
        return Kind.MANY_FAILING, f"{ran} of {plain_count(running, 'config')} began to fail within an hour."
    if _are_many(new, running):
        unknown = f"{new - ran} of them are not known to have run well within an hour before"
        return Kind.FAILING, f"{new} of {plain_count(running, 'config')} fail, and {unknown}."
    return Kind.FAILING, ""


def _are_many(failing: int, running: int) -> bool:
    return failing >= FEWEST_FAILING and failing > running * MANY_FAILING


def _slow_everywhere(count: int, since: datetime, now: datetime) -> Alert:
    """Checks whose runs take nearly the interval, or longer, wherever they run: another node would not help."""
    found = Trouble.objects.everywhere()
    figures = "; ".join(
        f"{scrub(one.name)} takes {milliseconds(one.milliseconds)} of {one.interval:g} s, on {plain_count(one.nodes, 'node')}"
        f" (from {listed([scrub(source) for source in one.sources])})"
        for one in found[:NAMED]
    )
    others = "; others" if len(found) > NAMED else ""
    cause = f"Slow wherever they run, so no node is to blame and nothing moves: {figures}{others}."
    return Alert(Kind.SLOW_EVERYWHERE, count, cause, Target.rows(Config, trouble=str(Kind.SLOW_EVERYWHERE)), now, since)


def of_removals(now: datetime) -> Iterator[Alert]:
    """Configs that sources took away lately and sent nothing for, too many for a usual change and too few for a hold."""
    lately = Move.objects.filter(time__gte=ago(LATELY), actor=ACTOR)
    is_gone, is_new = Q(reason=Move.Reason.UNSCHEDULED), Q(reason=Move.Reason.SCHEDULED)
    numbers = {
        "gone": Count("pk", filter=is_gone),
        "new": Count("pk", filter=is_new),
        "since": Min("time", filter=is_gone),
    }
    gone, new, since = lately.aggregate(**numbers).values()
    missing = gone - new
    if missing < HELD_FROM:
        return
    before = Config.objects.count() + missing
    if missing > before * SHARE_REMOVED:
        cause = (
            f"Sources took away {plain_count(gone, 'config')} of {before} within an hour, which is too few to be held: nobody was"
            " asked. If that was an error, bring back what sent them."
        )
        yield Alert(
            Kind.MANY_REMOVED, gone, cause, Target.rows(Move, reason__exact=Move.Reason.UNSCHEDULED), now, since
        )
