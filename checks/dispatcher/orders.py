"""Orders of people, decided and committed in one call, and the verbs that end them. `deciding` describes what each does."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from django.db import transaction

from acts.models import Act
from acts.recording import record
from checks.dispatcher import acting, deciding
from checks.dispatcher.committing import commit, decide_and_commit, require_takers
from checks.dispatcher.decision import Decision, make_decision
from checks.dispatcher.transaction import single_transaction
from checks.models import ClusterStore, Move, bounds
from checks.models.bounds import Outside
from checks.models.orders import Isolation, Order, Pin
from nodes.models import Node


class Undone(NamedTuple):
    """The result of an undo. refused: {move's id: why it can't be undone}."""

    moves: list[Move]
    refused: dict[int, str]


def reassign(config_ids: Collection[int], node: str, *, actor: str, **how: Any) -> list[Move]:
    """Give configs to a node, and return the moves. Raises REFUSALS and StalePlan."""
    return _do(lambda: deciding.reassign(config_ids, node, **how), actor)


def pin(config_ids: Collection[int], aim: str, *, actor: str = "", term: int | None = None, **how: Any) -> list[Move]:
    """Pin configs to a node, a name pattern or a label, move those that run elsewhere, and return the moves.

    Raises NotDispatchable, ValidationError and StalePlan.
    """
    return _do(lambda: deciding.pin(config_ids, aim, **how), actor, term)


def unpin(
    config_ids: Collection[int],
    *,
    by_source: bool = False,
    term: int | None = None,
    only: Collection[int] | None = None,
) -> int:
    """Delete the pins of configs, which stay where they are. Returns how many configs were pinned.

    only: ids of the pins that were shown; a newer one of these configs stays.
    by_source: a source takes back its own pins; otherwise this raises NotTheirs for them.
    """
    pins = Pin.objects.filter(config_id__in=config_ids)
    if not by_source:
        return _end(Act.Verb.UNPIN, Pin, config_ids, only, lambda: deciding.require_theirs(Pin, config_ids))
    with single_transaction():
        ClusterStore.objects.lock(term)
        return pins.filter(from_source=True).delete()[0]


def pause(config_ids: Collection[int], *, actor: str = "", term: int | None = None, **how: Any) -> list[Move]:
    """Take configs from their nodes until someone resumes them, or until `until`. Returns the moves.

    Raises NotDispatchable and StalePlan.
    """
    return _do(lambda: deciding.pause(config_ids, **how), actor, term)


def resume(config_ids: Collection[int], *, actor: str = "", term: int | None = None, **how: Any) -> list[Move]:
    """Give paused configs to nodes again, and return the moves. Configs without an eligible node dangle.

    Raises NotTheirs and StalePlan.
    """
    return _do(lambda: deciding.resume(config_ids, **how), actor, term)


def isolate(config_ids: Collection[int], *, actor: str = "", term: int | None = None, **how: Any) -> list[Move]:
    """Keep the nodes of configs for them alone until they are released: others move away. Returns the moves.

    Raises NotAccepting, NotDispatchable and StalePlan.
    """
    return _do(lambda: deciding.isolate(config_ids, **how), actor, term)


def release(config_ids: Collection[int], *, only: Collection[int] | None = None) -> int:
    """End the isolation of configs. Returns how many configs were isolated. only: see `unpin`."""
    return _end(Act.Verb.RELEASE, Isolation, config_ids, only)


def cordon(names: Collection[str], *, actor: str, note: str = "", may_close: bool = False) -> int:
    """Give these nodes nothing new; what they have stays. Returns how many that changes.

    Raises StalePlan if no node would take work then; may_close: that is accepted.
    """
    with single_transaction():
        ClusterStore.objects.lock()
        require_takers(names, may_close=may_close)
        return Node.objects.filter(name__in=names).cordon(actor=actor, note=note)


@transaction.atomic
def store_waiting(order: Order) -> None:
    """Store what has changed of an order that waits for its origin. Raises Outside."""
    _require_waiting("change", order)
    before = acting.told(type(order).objects.get(pk=order.pk))
    order.save()
    record(Act.Verb.CHANGE, acting.named(order), before=before, after=acting.told(order), reason=order.note)


@transaction.atomic
def forget_waiting(orders: Iterable[Order]) -> None:
    """Delete orders that wait for their origin: no config has them. Raises Outside."""
    for order in orders:
        _require_waiting("delete", order)
        record(Act.Verb.DELETE, acting.named(order), before=acting.told(order))
        type(order).objects.filter(pk=order.pk, config=None).delete()


def _require_waiting(deed: str, order: Order) -> None:
    """Raise Outside for who is bound to checks: no config says yet whose the order is."""
    bounds.require_all(f"checks.{deed}_{order._meta.model_name}", f"the {acting.named(order)} waits for its origin")


def _end(
    verb: Act.Verb,
    model: type[Order],
    config_ids: Collection[int],
    only: Collection[int] | None,
    require: Callable[[], None] = lambda: None,
) -> int:
    """Delete the orders of this kind of these configs, if `require` does not refuse it. only: those with these ids."""
    try:
        acting.require_touchable(verb, config_ids)
        require()
    except (deciding.NotTheirs, Outside) as refusal:
        acting.record_refusal(verb, refusal)
        raise
    with transaction.atomic():
        rows = model.objects.filter(config_id__in=config_ids)
        ended = rows if only is None else rows.filter(pk__in=only)
        acting.record_end(verb, ended)
        deleted: int = ended.delete()[0]
        return deleted


def undo(move_ids: Collection[int], *, actor: str) -> Undone:
    """Give configs back to the nodes that these moves took them from, if that is still possible. Raises StalePlan."""
    return decide_and_commit(
        lambda: deciding.undo(move_ids), lambda decision: Undone(commit(decision, actor=actor), dict(decision.refused))
    )


def restore_isolation(config_ids: Collection[int], reason: str, *, term: int | None = None) -> list[Move]:
    """Move other configs away from the nodes of isolated ones, and return the moves. Raises StalePlan.

    Configs that no other node may have stay. reason: the Isolation.Reason, which is the reason of the moves.
    """
    order = {"verb": "isolate", "alone": [], "reason": reason, "note": ""}
    decision = make_decision(reason, order, deciding.isolation_choices(config_ids, reason))
    # Each pass tries this again, and must not raise the revision if nothing moves.
    return commit(decision, term=term) if decision.moves else []


def _do(decide: Callable[[], Decision], actor: str, term: int | None = None) -> list[Move]:
    return decide_and_commit(decide, lambda decision: commit(decision, actor=actor, term=term))
