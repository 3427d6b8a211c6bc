"""The verbs of people, decided and done at once, and what takes back their orders. See `deciding` for what each does."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from checks.dispatcher import deciding
from checks.dispatcher.committing import commit, decide_and_commit
from checks.dispatcher.decision import Decision, make_decision
from checks.models import Move
from checks.models.orders import Isolation, Pin


class Undone(NamedTuple):
    """What an undo did. refused: {move's id: why it can't be undone}."""

    moves: list[Move]
    refused: dict[int, str]


def reassign(config_ids: Collection[int], node: str, *, actor: str, **how: Any) -> list[Move]:
    """Give configs to a node, and return the moves. Raises REFUSALS, naming what can't be done, and StalePlan."""
    return _do(lambda: deciding.reassign(config_ids, node, **how), actor)


def pin(config_ids: Collection[int], aim: str, *, actor: str = "", **how: Any) -> list[Move]:
    """Pin configs to a node, a name pattern or a label, and move those that run elsewhere. Raises NotDispatchable, StalePlan."""
    return _do(lambda: deciding.pin(config_ids, aim, **how), actor)


def unpin(config_ids: Collection[int]) -> int:
    """Release configs from their pins; they stay where they are. Returns how many were pinned."""
    return Pin.objects.filter(config_id__in=config_ids).delete()[0]


def pause(config_ids: Collection[int], *, actor: str = "", **how: Any) -> list[Move]:
    """Let configs run nowhere until someone resumes them, or until then. Raises NotDispatchable, StalePlan."""
    return _do(lambda: deciding.pause(config_ids, **how), actor)


def resume(config_ids: Collection[int], *, actor: str = "", term: int | None = None) -> list[Move]:
    """Give paused configs to nodes again; what finds none dangles. Raises StalePlan."""
    return _do(lambda: deciding.resume(config_ids), actor, term)


def isolate(config_ids: Collection[int], *, actor: str = "", term: int | None = None, **how: Any) -> list[Move]:
    """Leave configs alone on their nodes until they are released. Raises NotAccepting, NotDispatchable, StalePlan."""
    return _do(lambda: deciding.isolate(config_ids, **how), actor, term)


def release(config_ids: Collection[int]) -> int:
    """End the isolation of configs. Returns how many were isolated."""
    return Isolation.objects.filter(config_id__in=config_ids).delete()[0]


def undo(move_ids: Collection[int], *, actor: str) -> Undone:
    """Give configs back to the nodes that these moves took them from, where that is still possible. Raises StalePlan."""
    return decide_and_commit(
        lambda: deciding.undo(move_ids),
        lambda decision: Undone(commit(decision, actor=actor), dict(decision.refused)),
    )


def restore_isolation(config_ids: Collection[int], reason: str, *, term: int | None = None) -> list[Move]:
    """Move away what else is on isolated configs' nodes; what no other node may have stays. Raises StalePlan."""
    order = {"verb": "isolate", "alone": [], "reason": reason, "note": ""}
    decision = make_decision(reason, order, deciding.isolation_choices(config_ids, reason))
    # What nobody may take is tried again and again, and must not raise the revision each time.
    return commit(decision, term=term) if decision.moves else []


def _do(decide: Callable[[], Decision], actor: str, term: int | None = None) -> list[Move]:
    return decide_and_commit(decide, lambda decision: commit(decision, actor=actor, term=term))
