"""The history of a config: its edits, its moves, the ends of their hand-overs, and the events of the nodes that had it, while
they had it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from checks.models import Config, Move
from checks.models.edits import Edit
from checks.models.handovers import Promise
from nodes.models import NodeEvent


@dataclass(frozen=True)
class Line:
    """One entry of the history. kind: `edit`, `move` or `node`. diff: the lines of an edit."""

    time: datetime
    kind: str
    text: str
    actor: str = ""
    diff: Sequence[str] = ()


def of(config: Config, number: int) -> tuple[list[Line], bool]:
    """Return at most `number` entries of a config's history, the newest first, and whether there are more."""
    moves = list(Move.objects.filter(config_id=config.pk)[: number + 1])
    unshown = "Only secrets or the notation changed, which are not shown."
    lines = [
        Line(edit.time, "edit", "" if edit.diff else unshown, edit.actor, edit.diff)
        for edit in Edit.objects.changes(config.pk, config.display_text, number + 1)
    ]
    lines += _moves(moves)
    lines += _events(moves, number)
    lines.sort(key=lambda line: line.time, reverse=True)
    return lines[:number], len(lines) > number or len(moves) > number


def _moves(moves: Sequence[Move]) -> Iterator[Line]:
    """A line for each move, from the node that really had the config, and one for the end of its hand-over."""
    told_at = {move.time for move in moves}
    # Who has it by the ledger, and who hands it to that one since nothing came of the moves between.
    owner = giver = ""
    waits = False
    for move in reversed(moves):
        # An edit is also a move in the ledger, since the owner must fetch the config again.
        if move.source_node == move.to_node:
            if move.reason != Move.Reason.CHANGED:
                yield Line(move.time, "move", f"{move.to_node}: {move.reason}", move.actor)
            continue
        giver = giver if waits and owner == move.source_node else move.source_node
        owner, waits = move.to_node, move.promise == Promise.STRICT and move.handed_at is None
        way = f"{giver or 'nobody'} → {owner or 'nobody'}" if giver != owner else f"{owner} keeps it"
        yield Line(move.time, "move", f"{way}: {move.reason}", move.actor)
        # Otherwise something else came of it, or nobody fetched it, and another line says so.
        if move.handed_at and move.handed_at not in told_at:
            done = f"{owner}: handed over by {giver}" if owner else f"given up by {giver}"
            yield Line(move.handed_at, "move", done)


def _events(moves: Sequence[Move], number: int) -> Iterator[Line]:
    """The events of each owner, from the move that gave it the config to the next move: what is strict, from the end of its
    hand-over.
    """
    spells: list[tuple[str, datetime, datetime | None]] = []
    until: datetime | None = None
    for move in moves:
        began = move.handed_at if move.promise == Promise.STRICT else move.time
        if move.to_node and began:
            spells.append((move.to_node, began, until))
        until = move.time
    if not spells:
        return
    events = NodeEvent.objects.filter(node_name__in={name for name, _, _ in spells}, time__gte=moves[-1].time)
    for event in events[: 10 * number]:
        if any(
            event.node_name == name and began <= event.time and (ended is None or event.time <= ended)
            for name, began, ended in spells
        ):
            cause = f": {event.told}" if event.cause and event.kind != NodeEvent.Kind.DECLARED else ""
            yield Line(event.time, "node", f"{event.node_name} {event.kind}{cause}")
