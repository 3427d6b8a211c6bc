"""The number of SQL statements of verbs: for a thousand configs hardly more than for a hundred."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.models import Config, Move
from checks.models.map import remove_configs
from checks.models.orders import ORDERS, Isolation, Pause, Pin
from checks.tests.cast import report, sent
from nodes.models import Heartbeat, Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

FEW, MANY = 100, 1000


def statements(work: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as made:
        work()
    return len(made)


def grown(verb: Callable[[Collection[int]], Any], before: Callable[[Collection[int]], Any] | None = None) -> float:
    """The ratio of a verb's statements for MANY configs to those for FEW other configs."""
    numbers = []
    for name, number in (("few", FEW), ("many", MANY)):
        dispatcher.schedule([sent(f"{name}{i}") for i in range(number)])
        ids = list(Config.objects.filter(origins__key__startswith=name).values_list("pk", flat=True))
        if before:
            before(ids)
        numbers.append(statements(lambda ids=ids: verb(ids)))
    return numbers[1] / numbers[0]


def keys(ids: Collection[int]) -> list[tuple[str, str]]:
    return list(Config.objects.filter(pk__in=ids).values_list("origins__source", "origins__key"))


@pytest.mark.parametrize(
    ("verb", "before"),
    [
        (lambda ids: dispatcher.pin(ids, "birch"), None),
        (dispatcher.unpin, lambda ids: dispatcher.pin(ids, "birch")),
        (dispatcher.pause, None),
        (dispatcher.resume, dispatcher.pause),
        (lambda ids: dispatcher.reassign(ids, "birch", actor="olga"), None),
        (lambda ids: dispatcher.unschedule(keys(ids)), lambda ids: dispatcher.pin(ids, "birch")),
        (
            lambda ids: dispatcher.undo(
                Move.objects.filter(config_id__in=ids).values_list("pk", flat=True), actor="olga"
            ),
            lambda ids: dispatcher.reassign(ids, "birch", actor="olga"),
        ),
    ],
    ids=["pin", "unpin", "pause", "resume", "reassign", "unschedule", "undo"],
)
def test_statements_do_not_grow_with_the_configs(
    verb: Callable[[Collection[int]], Any], before: Callable[[Collection[int]], Any] | None
) -> None:
    report("ash", "birch")
    assert grown(verb, before) < 2


def test_isolating_many_configs_takes_as_many_statements_as_few() -> None:
    """Configs on nodes of their own, each beside other configs: all in one transaction."""
    Node.objects.bulk_create([Node(name=f"node-{i:04}") for i in range(MANY)])
    Heartbeat.objects.bulk_create([Heartbeat(node=node) for node in Node.objects.all()])
    dispatcher.schedule([sent(f"company{i}") for i in range(2 * MANY)])
    numbers = []
    for number in (FEW, MANY * 4 // 10):
        Isolation.objects.all().delete()
        ids = list(
            Config.objects.filter(assignment__isnull=False)
            .order_by("assignment__node_id")
            .distinct("assignment__node_id")
            .values_list("pk", flat=True)
        )
        numbers.append(statements(lambda ids=ids[:number]: dispatcher.isolate(ids)))
    assert numbers[1] / numbers[0] < 2


def test_many_orders_that_wait_for_configs_take_as_many_statements_as_few() -> None:
    report("ash", "birch")
    numbers = []
    for name, number in (("few", FEW), ("many", MANY)):
        configs = [sent(f"{name}{i}") for i in range(number)]
        dispatcher.schedule(configs)
        ids = list(Config.objects.filter(origins__key__startswith=name).values_list("pk", flat=True))
        dispatcher.pin(ids, "birch")
        dispatcher.pause(ids)
        dispatcher.unschedule([("file", f"{name}{i}") for i in range(number)])
        numbers.append(statements(lambda configs=configs: dispatcher.schedule(configs)))
    assert numbers[1] / numbers[0] < 2
    assert [model.objects.filter(config__isnull=False).count() for model in ORDERS] == [FEW + MANY, FEW + MANY, 0]
    assert not Pin.objects.filter(config=None).exists()
    assert not Pause.objects.filter(config=None).exists()


def test_many_configs_that_lose_an_origin_take_as_many_statements_as_few() -> None:
    """An order of such a config then belongs to an origin that still sends it."""
    report("ash", "birch")
    numbers = []
    for name, number in (("few", FEW), ("many", MANY)):
        for source in ("admin", "file"):
            dispatcher.schedule([sent(f"{name}{i}", source) for i in range(number)])
        ids = list(Config.objects.filter(origins__key__startswith=name).values_list("pk", flat=True).distinct())
        dispatcher.pin(ids, "birch")
        gone = [("admin", f"{name}{i}") for i in range(number)]
        numbers.append(statements(lambda gone=gone: dispatcher.unschedule(gone)))
    assert numbers[1] / numbers[0] < 2
    assert set(Pin.objects.values_list("source", flat=True)) == {"file"}


def test_configs_that_go_are_not_read_first() -> None:
    """Django deletes rows that no other table refers to by one statement."""
    dispatcher.schedule([sent(f"gone{i}") for i in range(30)])
    ids = list(Config.objects.values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as made:
        remove_configs(ids)
    assert not Config.objects.exists()
    read = [query["sql"] for query in made if query["sql"].startswith("SELECT") and "LIMIT 1" not in query["sql"]]
    assert not read
