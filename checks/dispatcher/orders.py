"""The verbs of people: reassign, pin, pause, isolate, and their opposites."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from checks.dispatcher.changes import Entry
from checks.dispatcher.misplaced import JudgedPools
from checks.dispatcher.transaction import Pools, Turn, committed, entries_of, in_chunks
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import Assignment, Config, Move, Origin
from checks.models.orders import Isolation, Order, Pause, Pin
from clusteragent.lib import conf
from nodes.models import Hearing, Node, UnknownNode

# How often what was moved away from isolated configs may itself be isolated, and find others where it comes to.
MOST_ROUNDS = 3


class NotAccepting(ValueError):
    """The node can't be given work; the message says why."""


class NotDispatchable(ValueError):
    """The config can't be assigned; the message says why."""


def reassign(config_ids: Collection[int], node_name: str, *, actor: str) -> list[Move]:
    """Give configs to a node. Raises UnknownNode, NotAccepting or NotDispatchable, naming what can't be done."""
    return in_chunks(sorted(set(config_ids)), lambda chunk: _reassign(chunk, node_name, actor))


def pin(
    config_ids: Collection[int], aim: str, *, kind: str = Pin.Kind.NODE, waits: bool = False,
    until: datetime | None = None, actor: str = "", note: str = "", pools: JudgedPools | None = None,
) -> list[Move]:  # fmt: skip
    """Pin configs to a node, a name pattern or a label, and move those that run elsewhere. Raises NotDispatchable.

    pools: nodes that were counted before, by whoever holds the store's lock already.
    """
    order = {"aim": aim, "kind": kind, "waits": waits, "until": until, "author": actor, "note": note}
    Pin(**order).clean()
    nodes = pools or JudgedPools()
    return in_chunks(sorted(set(config_ids)), lambda chunk: _pin(chunk, order, nodes, actor), nodes)


def unpin(config_ids: Collection[int]) -> int:
    """Release configs from their pins; they stay where they are. Returns how many were pinned."""
    return Pin.objects.filter(config_id__in=config_ids).delete()[0]


def pause(config_ids: Collection[int], *, until: datetime | None = None, actor: str = "", note: str = "") -> list[Move]:
    """Let configs run nowhere until someone resumes them, or until then. Raises NotDispatchable."""
    order = {"until": until, "author": actor, "note": note}
    return in_chunks(sorted(set(config_ids)), lambda chunk: _pause(chunk, order, actor))


def resume(config_ids: Collection[int], *, term: int | None = None, actor: str = "") -> list[Move]:
    """Give paused configs to nodes again; what finds none dangles."""
    pools = Pools()
    return in_chunks(sorted(set(config_ids)), lambda chunk: _resume(chunk, pools, term, actor), pools)


def isolate(
    config_ids: Collection[int], *, actor: str = "", note: str = "", term: int | None = None,
    reason: str = Isolation.Reason.ISOLATED,
) -> list[Move]:  # fmt: skip
    """Leave configs alone on their nodes until they are released; of several on one node one stays.

    Raises NotDispatchable; NotAccepting when there is no other node.
    """
    order = {"reason": reason, "author": actor, "note": note}
    ids = sorted(set(config_ids))
    in_chunks(ids, lambda chunk: _isolate(chunk, order, term))
    return leave_alone(ids, reason, term=term, actor=actor)


def release(config_ids: Collection[int]) -> int:
    """End the isolation of configs. Returns how many were isolated."""
    return Isolation.objects.filter(config_id__in=config_ids).delete()[0]


def leave_alone(config_ids: Collection[int], reason: str, *, term: int | None = None, actor: str = "") -> list[Move]:
    """Move away what else is on isolated configs' nodes; what no other node may have stays."""
    pools = Pools()
    moves: list[Move] = []
    for _ in range(MOST_ROUNDS):
        nodes = Assignment.objects.filter(config__in=config_ids).values_list("node", flat=True)
        moved = in_chunks(_company(list(nodes)), lambda chunk: _move_away(chunk, reason, pools, term, actor), pools)
        moves += moved
        # One that moved away from another is in new company.
        if not {move.config_id for move in moved} & set(config_ids):
            break
    return moves


def move_astray(turn: Turn, entries: Sequence[Entry], pools: JudgedPools) -> None:
    """Move those that may not, or should not, run where they are."""
    placement = pools.at(turn.store.revision)
    judge = pools.judge
    if judge.eligibility.needs_origins():
        name_origins(entries)
    for why, group in _grouped(entries, judge.must_go).items():
        turn.relocate(group, placement, why, dangle=True)
    for why, group in _grouped(entries, judge.should_go).items():
        turn.relocate(group, placement, why)


def _grouped(entries: Iterable[Entry], judgement: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    """Those that a judgement finds something about, by what it finds."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if why := judgement(entry):
            groups.setdefault(why, []).append(entry)
    return groups


@committed
def _isolate(ids: Sequence[int], order: dict[str, Any], term: int | None) -> list[Move]:
    turn = Turn(term, "")
    entries = dispatchable(ids)
    others = set(Node.objects.accepting().values_list("pk", flat=True)[:2])
    for entry in entries:
        if entry.owner is None:
            raise NotDispatchable(f"{entry.shown} runs nowhere")
        if not others - {entry.owner}:
            raise NotAccepting("No other runners available")
    # Asked again without a reason, it keeps the first one's: the API of the Datadog Cluster Agent can't give any.
    same = Isolation.objects.filter(config__in=() if order["note"] else ids, reason=order["reason"])
    kept = set(same.values_list("config_id", flat=True))
    if ordered := [entry for entry in entries if entry.id not in kept]:
        _order(Isolation, ordered, order)
        turn.finish()
    return []


def _company(nodes: Collection[int]) -> list[int]:
    """Configs that share these nodes with one that is isolated there."""
    alone = _alone_on(nodes)
    held = Assignment.objects.filter(node__in=alone).order_by("config")
    return [config for config, node in held.values_list("config_id", "node_id") if alone[node] != config]


def _alone_on(nodes: Collection[int]) -> dict[int, int]:
    """The config that should be alone on each of these nodes, where one should: of several the one isolated first."""
    isolated = Isolation.objects.filter(config__assignment__node__in=nodes).order_by("-pk")
    return dict(isolated.values_list("config__assignment__node", "config"))


@committed
def _move_away(company: Sequence[int], reason: str, pools: Pools, term: int | None, actor: str) -> list[Move]:
    turn = Turn(term, actor)
    placement = pools.at(turn.store.revision)
    entries = [entry for entry in entries_of(company) if entry.owner is not None]
    alone = _alone_on({entry.owner for entry in entries if entry.owner})
    # A node that is kept for another isolated config would only send it back.
    if not placement.is_kept:
        turn.relocate([one for one in entries if alone.get(one.owner or 0, one.id) != one.id], placement, reason)
    if turn.moves:
        return turn.finish()
    pools.keep()
    return []


@committed
def _reassign(ids: Sequence[int], node_name: str, actor: str) -> list[Move]:
    turn = Turn(None, actor)
    node = accepting(node_name)
    moving = [entry for entry in dispatchable(ids) if entry.owner != node.pk]
    check_admitted(node, moving)
    assigned = [entry for entry in moving if entry.owner is not None]
    dangling = [entry for entry in moving if entry.owner is None]
    for entry in moving:
        turn.move(entry, node.pk, Move.Reason.OPERATOR)
    turn.transfer(assigned, Move.Reason.OPERATOR)
    turn.assign(dangling, Move.Reason.OPERATOR)
    Config.objects.settle([entry.id for entry in dangling])
    return turn.finish() if moving else []


@committed
def _pin(ids: Sequence[int], order: dict[str, Any], pools: JudgedPools, actor: str) -> list[Move]:
    turn = Turn(None, actor)
    entries = dispatchable(ids, paused=True)
    _order(Pin, entries, order)
    for entry in entries:
        entry.pin = Pin(**order)
    move_astray(turn, entries, pools)
    return turn.finish()


@committed
def _pause(ids: Sequence[int], order: dict[str, Any], actor: str) -> list[Move]:
    turn = Turn(None, actor)
    entries = dispatchable(ids, paused=True)
    _order(Pause, entries, order)
    for entry in entries:
        if entry.owner is not None:
            turn.move(entry, None, Move.Reason.PAUSED)
    paused = [entry.id for entry in entries]
    Assignment.objects.filter(config_id__in=paused).delete()
    Config.objects.settle(paused)
    return turn.finish()


@committed
def _resume(ids: Sequence[int], pools: Pools, term: int | None, actor: str) -> list[Move]:
    turn = Turn(term, actor)
    paused = set(Pause.objects.filter(config_id__in=ids).values_list("config_id", flat=True))
    entries = [entry for entry in entries_of(ids) if entry.id in paused]
    if not entries:
        return []
    Pause.objects.filter(config_id__in=paused).delete()
    # What became an endpoint check meanwhile runs where its endpoint is.
    ownerless = [entry for entry in entries if not entry.endpoint and entry.owner is None]
    placed = turn.place(ownerless, pools.at(turn.store.revision), Move.Reason.RESUMED)
    turn.assign(placed, Move.Reason.RESUMED)
    Config.objects.let_dangle([entry.id for entry in ownerless if entry.owner is None])
    return turn.finish()


def _order(model: type[Order], entries: Sequence[Entry], order: dict[str, Any]) -> None:
    """Write what is ordered of configs, in place of what was, under the first of the origins of each."""
    ids = [entry.id for entry in entries]
    firsts = Origin.objects.filter(config__in=ids).order_by("config_id", "source", "key").distinct("config_id")
    model.objects.filter(config__in=ids).delete()
    rows = [model(config_id=first.config_id, source=first.source, key=first.key, **order) for first in firsts]
    model.objects.bulk_create(rows)


def dispatchable(ids: Collection[int], *, paused: bool = False) -> list[Entry]:
    """Configs that a person may give to a node. Raises NotDispatchable."""
    entries = entries_of(ids)
    missing = set(ids) - {entry.id for entry in entries}
    if missing:
        raise NotDispatchable(f"config {min(missing)} does not exist any more")
    for entry in entries:
        if entry.endpoint:
            raise NotDispatchable(f"{entry.shown} is an endpoint check: it runs where its endpoint is")
        if entry.paused and not paused:
            raise NotDispatchable(f"{entry.shown} is paused: resume it first")
    return entries


def accepting(name: str) -> Node:
    """The node of this name, which may be given work. Raises UnknownNode or NotAccepting."""
    node = Node.objects.known().filter(name=name).first()
    if node is None:
        raise UnknownNode(f"node {name} is unknown")
    if not node.schedulable:
        raise NotAccepting(f"node {name} is cordoned: it gets nothing new")
    if node.leaving:
        raise NotAccepting(f"node {name} said that it leaves: it gets nothing new")
    if not Node.objects.alive().filter(pk=node.pk).exists():
        raise NotAccepting(f"node {name} is silent for longer than {conf.NODE_EXPIRATION_TIMEOUT.total_seconds():g} s")
    if Hearing.objects.filter(warmup=True).exists():
        raise NotAccepting("nothing is placed before the warm-up of this new database is over")
    return node


def check_admitted(node: Node, entries: Sequence[Entry]) -> None:
    """Raise NotAccepting where a rule, a pin, an isolation or the node itself refuses one of these."""
    [candidate] = candidates(Node.objects.filter(pk=node.pk))
    eligibility = Eligibility([candidate])
    if eligibility.needs_origins():
        name_origins(entries)
    for entry in entries:
        if entry.pin is not None and not entry.pin.matches(node.name, node.labels):
            raise NotAccepting(f"{entry.shown} is pinned to {entry.pin}: unpin it first")
        if why := eligibility.refusals(entry).get(node.name):
            raise NotAccepting(f"node {node.name} can't have {entry.shown}: {why}")
        eligibility.take(entry, node.pk)
    alone = Isolation.objects.filter(config__assignment__node=node).exclude(config__in=[entry.id for entry in entries])
    if lonely := alone.select_related("config").first():
        raise NotAccepting(f"node {node.name} is kept for {lonely.config}, which is {lonely.reason}")
    if node.max_configs is not None and node.assignments.count() + len(entries) > node.max_configs:
        raise NotAccepting(f"node {node.name} may have at most {node.max_configs} configs")
