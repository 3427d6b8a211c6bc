"""Puts on record, with the act that follows, what was foreseen of it."""

from collections.abc import Collection, Mapping, Sequence

from acts import recording
from checks.explain.aftermath import Moving, titled
from checks.explain.rehearsed import GONE, NEW, NOBODY

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
