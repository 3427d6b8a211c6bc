"""What is recorded of the orders that people give and end."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from django.db.models import QuerySet

from acts.models import Act
from acts.recording import Outcome, someone_acts
from acts.recording import record as record_act
from checks.dispatcher.decision import Decision, Placement
from checks.models import Assignment, Config, Move, Plan, bounds
from checks.models.configs import ConfigQuerySet
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.models.titles import called
from clusteragent.lib.words import grouped_count, listed

# The orders that a decision of this verb replaces or ends.
_REPLACED: dict[str, type[Order]] = {
    "reassign": Pin, "pin": Pin, "pause": Pause, "resume": Pause, "isolate": Isolation
}  # fmt: skip
# Verbs by which each config goes to a node that is decided for it; the empty one is a rebalance.
_GIVING = {"reassign", "undo", "adopt", ""}
# Verbs that send a config to a node, a pin also later. So does the end of a pause.
_SENDING = {"reassign", "pin", "resume", "undo"}
# So many configs are named in what an act is about; of more those of the list beside it.
NAMED = 3
# So many orders that it replaces are told, and so many nodes and configs.
MOST_BEFORE = 100
# Of an order: what is told elsewhere, or is but work for the commit.
_UNTOLD = {"verb", "alone", "also", "refused", "note", "origin", "replaces", "held"}


class Asked(NamedTuple):
    """What a person asked for, and of which configs or nodes. A refusal has it as `asked`, where its verb knows it."""

    verb: str
    configs: Collection[int] = ()
    nodes: Collection[str] = ()

    def __str__(self) -> str:
        return f"{self.verb} {shown(self.configs) if self.configs else listed(sorted(self.nodes))}"


def require_within(decision: Decision, *, is_done: bool = True) -> None:
    """Raise Outside unless the person who acts may do what is decided to each config that it touches.

    is_done: it is carried out; otherwise who may not pin may still make the plan of a reassignment that also pins.
    """
    order, verb = decision.order, decision.verb
    if order.get("origin") or order.get("by_source"):
        return  # a source orders it, whoever had it read
    if bounds.NEEDED[verb] not in bounds.STEERING:
        bounds.require_all(bounds.NEEDED[verb], "it concerns the whole cluster")
        return
    # What may stay beside an isolated config is not touched.
    touched = {one.config for one in decision.placements if one.moves or verb != "isolate"} | set(
        order.get("alone", ())
    )
    require_touchable(verb, touched)
    if verb in _SENDING or order.get("until"):
        _require_released(verb, touched)
    if order.get("hold") and is_done:
        require_touchable("pin", touched)


def require_touchable(verb: str, config_ids: Collection[int]) -> None:
    """Raise Outside unless the person who acts may do this to all of these configs."""
    try:
        bounds.require_configs(bounds.NEEDED[verb], config_ids)
    except bounds.Outside as refusal:
        asking(refusal, Asked(verb, config_ids))
        raise


def _require_released(verb: str, config_ids: Collection[int]) -> None:
    """Raise Outside for who is bound, if one of these configs is isolated: others would leave the node that it goes to."""
    permission = bounds.NEEDED[verb]
    if not bounds.why_not_all(permission, verb):
        return
    for one in Isolation.objects.filter(config__in=config_ids).select_related("config").order_by("pk")[:1]:
        try:
            bounds.require_all(permission, f"others leave the node that {one.config} goes to while it is isolated")
        except bounds.Outside as refusal:
            asking(refusal, Asked(verb, config_ids))
            raise


def asked_by(decision: Decision) -> Asked:
    """What a person asked for by a decision: of a drain its nodes, else its configs."""
    if nodes := decision.order.get("nodes"):
        return Asked(decision.verb, nodes=nodes)
    return Asked(decision.verb, {one.config for one in _meant(decision)})


def asking(refusal: Exception, asked: Asked) -> None:
    """Let the refusal know what was asked for."""
    refusal.__dict__.setdefault("asked", asked)


def record(decision: Decision, plan: Plan | None) -> None:
    """Record that a person carries out this decision. A plan that was not stored is not named."""
    if not someone_acts():
        return
    ids = {one.config for one in decision.placements}
    to = decision.order.get("node") or decision.order.get("aim")
    held = ", pinned there" if decision.order.get("hold") else ""
    record_act(
        decision.verb or Act.Verb.REBALANCE,
        _named(_meant(decision)) + (f" to {to}{held}" if to else ""),
        before=_before(decision, ids),
        after=_after(decision),
        plan=plan.pk if plan else None,
        reason=decision.order.get("note", ""),
        configs=ids,
        nodes={name for one in decision.moves for name in (one.from_node, one.to_node) if name}
        | nodes_of(one.config for one in decision.placements if not one.moves),
    )


def record_end(verb: Act.Verb, orders: QuerySet[Any]) -> None:
    """Record that a person ends these orders. Call it in the transaction that then deletes them."""
    if not someone_acts():
        return
    # Locked: nobody else ends them meanwhile.
    ids = list(orders.order_by("pk").select_for_update().values_list("config_id", flat=True))
    if ids:
        record_act(verb, shown(ids), before=_orders(orders.model, ids), configs=ids, nodes=nodes_of(ids))


def replaced(decision: Decision) -> QuerySet[Any] | None:
    """The orders that a decision of a person replaces or ends; None if its verb is about none."""
    order = decision.order
    if decision.verb not in _REPLACED or order.get("origin") or order.get("by_source"):
        return None
    if decision.verb == "reassign" and not order["hold"]:
        return None
    found: QuerySet[Any] = _REPLACED[decision.verb].objects.of([one.config for one in _meant(decision)])
    return found


def record_refusal(what: str, why: Exception, *, plan: Plan | None = None) -> None:
    """Record that something was refused to a person, and nothing was done. Call it after the transaction that was rolled back.

    what: what it was, where the refusal does not know what was asked for. A refusal is recorded once.
    """
    if is_on_record(why):
        return
    why.__dict__["is_on_record"] = True
    asked: Asked | None = None if plan else why.__dict__.get("asked")
    if asked is None:
        configs, nodes = plan.concerned(MOST_BEFORE) if plan and someone_acts() else ([], [])
        number = plan.pk if plan else None
        record_act(Act.Verb.REFUSE, what, plan=number, reason=str(why), configs=configs, nodes=nodes)
    elif someone_acts():
        record_act(Act.Verb.REFUSE, str(asked), reason=str(why), configs=asked.configs, nodes=asked.nodes)


def is_on_record(why: object) -> bool:
    """Whether this refusal was recorded."""
    return bool(getattr(why, "is_on_record", False))


def nodes_of(config_ids: Iterable[int]) -> set[str]:
    """Return the names of the nodes that have these configs."""
    return set(Assignment.objects.filter(config__in=list(config_ids)).values_list("node__name", flat=True))


def shown(config_ids: Collection[int]) -> str:
    """Return configs in words: up to three by their titles."""
    rows = Config.objects.filter(pk__in=list(config_ids)[:NAMED]).order_by("pk").values_list("title", "name", "digest")
    return _words(len(config_ids), [called(*row) for row in rows])


def note_moves(outcome: Outcome, moves: Sequence[Move]) -> None:
    """Let the outcome of a deed tell of these moves, too: how many, and from where to where the first MOST_BEFORE of all."""
    if not (moves and someone_acts()):
        return
    first = outcome.told.setdefault("first", [])
    for one in moves[: MOST_BEFORE - len(first)]:
        first.append({"config": one.shown, "from": one.source_node or None, "to": one.to_node or None})
    outcome.told["moves"] = outcome.told.get("moves", 0) + len(moves)
    outcome.configs |= {one.config_id for one in moves}
    outcome.nodes |= {name for one in moves for name in (one.source_node, one.to_node) if name}


def first_named(configs: ConfigQuerySet) -> dict[str, Any]:
    """Return how many configs these are and what the first MOST_BEFORE are called, for an act."""
    rows = configs.order_by("pk").values_list("title", "name", "digest")
    return {"number": configs.count(), "configs": [called(*row) for row in rows[:MOST_BEFORE]]}


def _meant(decision: Decision) -> list[Placement]:
    """What was asked for: of an isolation without the configs that make room for it."""
    alone = decision.order.get("alone")
    return [one for one in decision.placements if alone is None or one.config in alone]


def _named(placements: Collection[Placement]) -> str:
    return _words(len(placements), [called(one.title, one.name, one.digest) for one in list(placements)[:NAMED]])


def _words(number: int, first: list[str]) -> str:
    if number <= len(first):
        return listed(first, None)
    # What is gone has no title any more.
    named = f": {', '.join(first)}, …" if first else ""
    return f"{grouped_count(number, 'config')}{named}"


def _before(decision: Decision, config_ids: Collection[int]) -> list[dict[str, Any]] | None:
    """The orders that a decision replaces; of configs that people give to nodes also where they were."""
    found = _orders(_REPLACED[decision.verb], config_ids) if decision.verb in _REPLACED else []
    if decision.verb in _GIVING:
        found = [*_nodes(decision, "from_node"), *found]
    return found if found or decision.verb in _REPLACED else None


def _after(decision: Decision) -> Any:
    """What a decision orders; of an undo, where the configs are then; of an isolation, how many others move."""
    said = {name: value for name, value in decision.order.items() if name not in _UNTOLD}
    meant = _meant(decision)
    if decision.verb not in _GIVING and len(meant) > NAMED:
        # The plan, which names them too, is deleted sooner than the act.
        said["configs"] = [called(one.title, one.name, one.digest) for one in meant[:MOST_BEFORE]]
        said |= {"more": len(meant) - MOST_BEFORE} if len(meant) > MOST_BEFORE else {}
    if "alone" in decision.order:
        said["others_moved"] = len({one.config for one in decision.moves} - {*decision.order["alone"]})
    return said or (_nodes(decision, "to_node") if decision.verb in _GIVING else None) or None


def _nodes(decision: Decision, end: str) -> list[dict[str, Any]]:
    """At which node the first MOST_BEFORE of the moves begin or end (`end`)."""
    return [
        {"config": called(one.title, one.name, one.digest), "node": getattr(one, end) or None}
        for one in decision.moves[:MOST_BEFORE]
    ]


def _orders(model: type[Order], config_ids: Collection[int]) -> list[dict[str, Any]]:
    """The orders of this kind of these configs, up to MOST_BEFORE of them."""
    rows = model.objects.filter(config__in=config_ids).select_related("config").order_by("pk")
    columns = [field.name for field in model._meta.concrete_fields]
    rows = rows.only(*columns, "config__title", "config__name", "config__digest")
    return [told(row) for row in rows[:MOST_BEFORE]]


def named(order: Order) -> str:
    """Return in words which order it is, of one that waits for its origin."""
    return f"{order._meta.verbose_name} of {order.source}:{order.key}"


def told(order: Order) -> dict[str, Any]:
    """Return what an order says, as JSON data."""
    untold = {"id", "config", "from_source", "plan", "bounded"}
    fields = [field for field in order._meta.concrete_fields if field.name not in untold]
    said = {field.name: getattr(order, field.attname) for field in fields}
    values = {name: str(value) if hasattr(value, "isoformat") else value for name, value in said.items()}
    return values | ({"config": str(order.config)} if order.config else {})
