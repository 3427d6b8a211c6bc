"""Which config of ours is which of theirs: by the bytes that node agents compare, else by what they say. Pure."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from checks.adoption.bodies import Body, Reading
from checks.adoption.states import State


class Ours(NamedTuple):
    """A config of ours that should run on some node, and its title. is_paused: it should not, as somebody paused it."""

    id: int
    digest: str
    body: Body
    is_paused: bool = False
    title: str = ""


class Pair(NamedTuple):
    """A config that runs on a node there, and the one that it is here. changes: why it restarts once; empty if it does not."""

    node: str
    ours: Ours
    changes: tuple[str, ...] = ()


class Stop(NamedTuple):
    """A config that runs on a node there, and will not here. name: of its check. is_lost: nothing here says that it should."""

    node: str
    name: str
    why: str
    is_lost: bool = False


class Matching(NamedTuple):
    """All configs of both sides, each once: what goes on or restarts, what stops, and what starts."""

    pairs: list[Pair]
    stops: list[Stop]
    starts: list[Ours]

    @property
    def unchanged(self) -> list[Pair]:
        """What runs on without a restart."""
        return [pair for pair in self.pairs if not pair.changes]

    @property
    def restarts(self) -> list[Pair]:
        """What restarts once, on its node."""
        return [pair for pair in self.pairs if pair.changes]


_Running = tuple[str, Body]


def match(state: State, ours: Iterable[Ours]) -> Matching:
    """Match what runs there with what should run here. Of several alike, as many as there are on both sides.

    Raises TooMuchToCompare.
    """
    reading = Reading()
    left, free = [(node, body) for node in sorted(state.nodes) for body in state.nodes[node]], list(ours)
    found: list[tuple[_Running, Ours]] = []
    # From the strictest to the loosest.
    keys: Sequence[Callable[[Body], Hashable]] = (lambda body: body, reading.content, reading.core)
    for key in keys:
        matched, left, free = _by(key, left, free)
        found += matched
    pairs = [Pair(node, one, reading.differences(body, one.body)) for (node, body), one in found if not one.is_paused]
    paused = [Stop(node, body.name, "it is paused here") for (node, body), one in found if one.is_paused]
    checks = {body.name for _, body in left}
    known = {reading.core(one.body) for _, one in found if one.body.name in checks}
    stops = [_stop(node, body.name, is_known=reading.core(body) in known) for node, body in left]
    return Matching(pairs, paused + stops, [one for one in free if not one.is_paused])


def _by(
    key: Callable[[Body], Hashable], running: Sequence[_Running], ours: Sequence[Ours]
) -> tuple[list[tuple[_Running, Ours]], list[_Running], list[Ours]]:
    """Pair configs with equal keys, and return the pairs and what is left of both sides, in their order."""
    if not (running and ours):
        return [], list(running), list(ours)
    pools: dict[Hashable, deque[Ours]] = {}
    for one in ours:
        pools.setdefault(key(one.body), deque()).append(one)
    found: list[tuple[_Running, Ours]] = []
    left: list[_Running] = []
    for each in running:
        if pool := pools.get(key(each[1])):
            found.append((each, pool.popleft()))
        else:
            left.append(each)
    taken = {one.id for _, one in found}
    return found, left, [one for one in ours if one.id not in taken]


def _stop(node: str, name: str, *, is_known: bool) -> Stop:
    why = "it runs more than once there" if is_known else "it is in no source here"
    return Stop(node, name, why, is_lost=not is_known)
