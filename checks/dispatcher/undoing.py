"""Undoing: a config goes back to where a move took it from, as long as nothing else has happened to it since."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import UNDO, look
from checks.dispatcher.transaction import CHUNK, Turn, committed, entries_of
from checks.models import Move


class Undone(NamedTuple):
    """What an undo did. refused: {move's id: why it can't be undone}."""

    moves: list[Move]
    refused: dict[int, str]


def undo(move_ids: Collection[int], *, actor: str) -> Undone:
    """Give configs back to the nodes that these moves took them from, where that is still possible."""
    undone = Undone([], {})
    ids = sorted(set(move_ids))
    for start in range(0, len(ids), CHUNK):
        chunk = _undo(ids[start : start + CHUNK], actor)
        undone.moves.extend(chunk.moves)
        undone.refused.update(chunk.refused)
    return undone


def why_not(move_ids: Collection[int]) -> dict[int, str]:
    """Which of these moves can't be undone now, and why: {move's id: why}."""
    return _Judgement(move_ids).refused


@committed
def _undo(ids: Sequence[int], actor: str) -> Undone:
    turn = Turn(None, actor)
    judgement = _Judgement(ids)
    for entry, node in judgement.returning:
        turn.move(entry, node, Move.Reason.UNDONE)
    turn.transfer([entry for entry, _ in judgement.returning], Move.Reason.UNDONE)
    return Undone(turn.finish() if judgement.returning else [], judgement.refused)


class _Judgement:
    """Which moves can be undone: `returning` has their configs and the nodes that get them back."""

    def __init__(self, move_ids: Collection[int]) -> None:
        moves = Move.objects.in_bulk(move_ids)
        self._entries = {entry.id: entry for entry in entries_of({move.config_id for move in moves.values()})}
        self._last = Move.objects.last_of(self._entries)
        self._snapshot = look(UNDO)
        self._snapshot.read_origins(self._entries.values())
        self.returning: list[tuple[Entry, int]] = []
        self.refused = {id_: "the ledger has no such move" for id_ in move_ids if id_ not in moves}
        for move in moves.values():
            self._judge(move)

    def _judge(self, move: Move) -> None:
        entry = self._entries.get(move.config_id)
        why = self._of_move(move, entry)
        node = self._snapshot.by_name.get(move.source_node)
        if entry is None or why:
            self.refused[move.pk] = why
        elif node is None:
            self.refused[move.pk] = f"node {move.source_node} is gone"
        elif refusal := self._snapshot.refusal(entry, node):
            self.refused[move.pk] = refusal.advised(f"node {node.name}")
        else:
            self._snapshot.take(entry, node.id)
            self.returning.append((entry, node.id))

    def _of_move(self, move: Move, entry: Entry | None) -> str:
        if not move.source_node:
            return "no node had it before"
        if move.source_node == move.to_node:
            return "it did not leave its node"
        if entry is None:
            return "the config is gone"
        if entry.paused:
            return "it is paused: resume it first"
        if not move.to_node:
            return "it was taken from its node, not given to another"
        if self._last.get(entry.id) != move.pk or entry.owner is None:
            return "it has moved again since"
        return ""
