"""Puts on record, with the act that follows, what was foreseen of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from acts import recording
from checks import plans
from checks.dispatcher import Decision
from checks.dispatcher.acting import asked_by, asking
from checks.explain import consequences, objections
from checks.explain.aftermath import Moving, titled
from checks.explain.objections import NotAccepted
from checks.explain.rehearsed import GONE, NEW, NOBODY
from checks.models import Plan
from clusteragent.lib.words import percent

# So many moves of each kind are named.
MOST_NAMED = 100


def note(
    sentences: Sequence[str], worse: Sequence[str], moves: Mapping[str, Sequence[Moving]], nodes: Sequence[str] = ()
) -> None:
    """Let the act that follows say what somebody was told of it, and be shown on the pages of what moves or stops.

    moves: {what they are: moves}. nodes: names of those that it changes. Without an act it does nothing.
    """
    if not recording.someone_acts():
        return
    tables = {
        title: [(name, row.source or NOBODY, row.to or NOBODY) for row, name in titled(rows[:MOST_NAMED])]
        for title, rows in moves.items()
        if rows
    }
    configs, concerned = moved([row for rows in moves.values() for row in rows], nodes=nodes)
    recording.foresee(sentences, worse=worse, tables=tables, configs=configs, nodes=concerned)


def moved(
    moves: Sequence[Moving], configs: Collection[int] = (), nodes: Collection[str] = ()
) -> tuple[list[int], list[str]]:
    """Return on whose pages acts after which this moves are shown: the ids of configs, and the names of nodes.

    configs, nodes: those that it is done to, which come first.
    """
    ends = [name for one in moves for name in (one.source, one.to) if name not in ("", NOBODY, NEW, GONE)]
    return list(dict.fromkeys([*configs, *(one.config for one in moves)])), list(dict.fromkeys([*nodes, *ends]))


def note_plan(plan: Plan) -> None:
    """Let the act that follows say what a plan that is applied says besides its moves, which the act has anyway."""
    if recording.someone_acts() and not plan.applied_at:
        first = list(plan.nodes.items())[:MOST_NAMED]
        loads = [(name, percent(one["before"]), percent(one["after"])) for name, one in first]
        tables = {"Nodes, load before and after": loads} if loads else {}
        said = [consequences.sentence(plan), *consequences.of(plan), *consequences.guessed(plan)]
        recording.foresee(said, worse=consequences.worse(plan), tables=tables)


def accepting(decide: Callable[[], Decision], accepted: Collection[str]) -> Callable[[], Decision]:
    """Return a function that decides, and notes what that means. It raises NotAccepted for what nobody accepts of it."""

    def decide_accepted() -> Decision:
        decision = decide()
        plan = plans.to_plan(decision, author="")
        try:
            objections.require_accepted(objections.of(plan), accepted)
        except NotAccepted as refusal:
            asking(refusal, asked_by(decision))
            raise
        note_plan(plan)
        return replace(decision, may_close=objections.NO_NODE in accepted)

    return decide_accepted
