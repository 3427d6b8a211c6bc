"""The history of a config: its edits, its moves, and the events of the nodes that had it, while they had it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from checks.models import Config, Move
from checks.models.edits import Edit
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
    for move in moves:
        # An edit is also a move in the ledger, since the owner must fetch the config again.
        if not (move.reason == Move.Reason.CHANGED and move.source_node == move.to_node):
            way = f"{move.source_node or 'nobody'} → {move.to_node or 'nobody'}"
            text = f"{move.to_node if move.source_node == move.to_node else way}: {move.reason}"
            lines.append(Line(move.time, "move", text, move.actor))
    lines += _events(moves, number)
    lines.sort(key=lambda line: line.time, reverse=True)
    return lines[:number], len(lines) > number or len(moves) > number


def _events(moves: Sequence[Move], number: int) -> Iterator[Line]:
    """The events of each owner, from the move that gave it the config to the next move."""
    spells: list[tuple[str, datetime, datetime | None]] = []
    until: datetime | None = None
    for move in moves:
        if move.to_node:
            spells.append((move.to_node, move.time, until))
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
