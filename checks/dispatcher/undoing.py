"""Undoing a move: its config goes back to the node that it came from, if that move was its last one."""

from collections.abc import Collection

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import UNDO, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Move


def undoable(move_ids: Collection[int]) -> tuple[list[tuple[Entry, int]], dict[int, str]]:
    """Judge which of these moves can be undone. Returns [(config, id of the node that gets it back)] and {move's id: why not}."""
    judgement = _Judgement(move_ids)
    return judgement.undoable, judgement.refused


def undo_refusals(move_ids: Collection[int]) -> dict[int, str]:
    """Return why moves can't be undone now, {move's id: why}. Moves that can be undone are left out."""
    return _Judgement(move_ids).refused


class _Judgement:
    """Judges which moves can be undone: `undoable` has their configs and the nodes that get them back."""

    def __init__(self, move_ids: Collection[int]) -> None:
        moves = Move.objects.in_bulk(move_ids)
        self._entries = {entry.id: entry for entry in entries_of({move.config_id for move in moves.values()})}
        self._last = Move.objects.last_of(self._entries)
        self._snapshot = read_snapshot(UNDO)
        self._snapshot.read_origins(self._entries.values())
        self.undoable: list[tuple[Entry, int]] = []
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
            self.refused[move.pk] = refusal.with_advice(f"node {node.name}")
        else:
            self._snapshot.take(entry, node.id)
            self.undoable.append((entry, node.id))

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
