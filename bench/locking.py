"""How long does each verb hold the store's lock at most, with 100 000 configs on 10 000 nodes?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from time import perf_counter, process_time
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from bench import stage
from bench.report import Report
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Assignment, Config, Move
from checks.models.map import ClusterStoreManager
from checks.models.orders import Isolation, Pin
from nodes.models import Hearing, Heartbeat, Node, NodeRule

CONFIGS, NODES, MANY = 100_000, 10_000, 5_000
MOST = 0.5
ACTOR = "bench"

Verbs = Iterator[tuple[str, Callable[[], object]]]


def processor_time() -> float:
    """Return the processor seconds of this process and its session's server process until now, exact to 0.01 s."""
    return process_time() + stage.worked(connection.connection.info.backend_pid)


@contextmanager
def holds() -> Iterator[list[tuple[float, float]]]:
    """Collect (seconds, processor seconds) of each hold of the store's lock whose transaction was committed in the block."""
    found = [(0.0, 0.0)]
    lock = ClusterStoreManager.lock

    def locking(manager: Any, term: int | None = None) -> Any:
        store = lock(manager, term)
        began, worked = perf_counter(), processor_time()
        transaction.on_commit(lambda: found.append((perf_counter() - began, processor_time() - worked)))
        return store

    ClusterStoreManager.lock = locking  # type: ignore[method-assign]
    try:
        yield found
    finally:
        ClusterStoreManager.lock = lock  # type: ignore[method-assign]


def run(report: Report) -> None:
    """Report the longest hold of the lock for each verb."""
    stage.fresh(NODES)
    for name, verb in _verbs():
        with holds() as found:
            verb()
        longest = max(found)
        report.add(f"longest hold of the store's lock: {name}", longest[0], "s", most=MOST)
        report.add("  processor time of that hold", longest[1], "s")
        stage.heard()


def _verbs() -> Verbs:
    """Yield (name, verb), each at a time when the verb has much to do."""
    yield from _changes_and_orders()
    yield from _moves()
    yield from _losses()
    yield from _ends_of_the_warmup()
    yield "unschedule 100 000", lambda: dispatcher.unschedule(stage.keys(range(CONFIGS)))


def _changes_and_orders() -> Verbs:
    yield "schedule 100 000", lambda: dispatcher.schedule(stage.sent(number) for number in range(CONFIGS))
    stage.analyse()
    again = [stage.sent(number, "min_collection_interval: 20\n") for number in range(MANY)]
    yield "change 5 000", lambda: dispatcher.schedule(again)
    ids = _ids("pk")
    yield "pin 5 000", lambda: dispatcher.pin(ids, "node-000*", kind=Pin.Kind.PATTERN, actor=ACTOR)
    yield "pause 5 000", lambda: dispatcher.pause(ids, actor=ACTOR)
    yield "resume 5 000", lambda: dispatcher.resume(ids, actor=ACTOR)
    yield "unschedule 5 000, pinned", lambda: dispatcher.unschedule(stage.keys(range(MANY)))
    yield "schedule 5 000 with the pins that waited", lambda: dispatcher.schedule(again)
    Pin.objects.all().delete()
    yield "isolate 1 000", lambda: dispatcher.isolate(_ids("-pk")[:1000], actor=ACTOR)
    Isolation.objects.all().delete()


def _moves() -> Verbs:
    ids, last = _ids("-pk"), Move.objects.order_by("-pk").values_list("pk", flat=True).first()
    yield "reassign 5 000", lambda: dispatcher.reassign(ids, "node-00000", actor=ACTOR)
    moved = list(Move.objects.filter(pk__gt=last).values_list("pk", flat=True))
    yield "undo 5 000 moves", lambda: dispatcher.undo(moved, actor=ACTOR)
    plan = partial(deciding.reassign, ids, "node-00001", hold=True)
    yield "apply a plan that pins 5 000", lambda: plans.order(plan, actor=ACTOR)
    Pin.objects.all().delete()
    yield "rebalance without a budget", lambda: plans.rebalance(actor=ACTOR, unlimited=True, force=True)
    yield "a lowered limit", _lower_limits
    NodeRule.objects.all().delete()
    NodeRule.objects.apply()


def _losses() -> Verbs:
    yield "half of the nodes expire", lambda: _lose(NODES // 2)
    yield "place what they had", lambda: dispatcher.redispatch(force=True)
    Node.objects.known().filter(name__gte="node-08000").update(leaving=True)
    yield "give away what 2 000 nodes had", lambda: dispatcher.empty_leaving_nodes()
    Node.objects.update(leaving=False)


def _ends_of_the_warmup() -> Verbs:
    _let_dangle()
    yield "end the warm-up, 95 000 dangle", lambda: dispatcher.redispatch()
    _let_dangle()
    Node.objects.update(schedulable=False)
    yield "end the warm-up, nobody may have them", lambda: dispatcher.redispatch()
    Node.objects.update(schedulable=True)
    dispatcher.redispatch(force=True)


def _ids(order: str) -> list[int]:
    return list(Config.objects.order_by(order).values_list("pk", flat=True)[:MANY])


def _lower_limits() -> None:
    for thousands in range(5):
        NodeRule.objects.create(pattern=f"node-0{thousands}*", max_configs=9)
    NodeRule.objects.apply()
    dispatcher.move_misplaced()


def _lose(number: int) -> None:
    ids = list(Heartbeat.objects.order_by("pk").values_list("pk", flat=True)[:number])
    Heartbeat.objects.filter(pk__in=ids).update(seen_at=Now() - timedelta(minutes=1))
    dispatcher.expire_nodes(force=True)


def _let_dangle() -> None:
    """Begin a warm-up that ends with the next pass, and in which no config has a node."""
    Assignment.objects.all().delete()
    Config.objects.update(dangling_since=Now(), former_node=None)
    Node.objects.update(lost_at=None)
    Hearing.objects.update(warmup=True, warm_until=Now() - timedelta(seconds=1))
