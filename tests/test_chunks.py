"""Verbs that change many configs commit each chunk, so nobody waits for the store's lock until all of them are changed."""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.dispatcher import transaction as turns
from checks.models import Assignment, ClusterStore, Config, Move, Source
from checks.models.orders import Isolation, Pause, Pin
from checks.sources import origins
from checks.tests.balance import furnish
from checks.tests.cast import config, dangling, owners, report, sent, silence
from checks.tests.operators import apply, shown, superuser
from clusteragent.lib import conf
from nodes.hearing import lose_expired
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Node, NodeRule
from tests.test_races import Session

pytestmark = pytest.mark.django_db(transaction=True)

PAUSES = "/admin/checks/pause/"


@pytest.fixture(autouse=True)
def _four_configs(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "CHUNK", 2)
    Hearing.objects.update(warmup=False)
    Source.objects.update(read_at="2026-01-01T00:00:00Z")
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent(f"c{i}") for i in range(4)])


def ids() -> list[int]:
    return list(Config.objects.order_by("pk").values_list("pk", flat=True))


def seen_between(work: Callable[[], Any], found: Callable[[], Any]) -> Any:
    """What other sessions see while a verb waits for the last of four configs, whose row the test has locked."""
    with transaction.atomic():
        list(Config.objects.select_for_update().filter(pk=ids()[3]))
        session = Session(work)
        session.waits()
        between = found()
    session.finish()
    return between


def paused() -> list[int]:
    return list(Pause.objects.order_by("config").values_list("config_id", flat=True))


def test_the_first_chunk_is_there_while_the_second_waits() -> None:
    assert seen_between(lambda: dispatcher.pause(ids()), paused) == ids()[:2]
    assert paused() == ids()


def test_the_first_chunk_of_a_plan_is_there_while_the_second_waits() -> None:
    client, names = superuser(), " ".join(Config.objects.order_by("pk").values_list("digest", flat=True))
    plan = shown(client, f"{PAUSES}add/", configs=names, until="")
    assert seen_between(lambda: apply(client, plan), paused) == ids()[:2]
    assert paused() == ids()


def test_the_first_chunk_that_the_admin_takes_back_is_there_while_the_second_waits() -> None:
    dispatcher.pause(ids())
    chosen = list(Pause.objects.values_list("pk", flat=True))
    client = superuser()
    plan = shown(client, PAUSES, action="resume", _selected_action=chosen)
    assert seen_between(lambda: apply(client, plan), paused) == ids()[2:]
    assert paused() == []


def test_what_can_not_be_done_to_the_last_is_done_to_none() -> None:
    ids_ = ids()
    Config.objects.filter(pk=ids_[3]).update(node_name="kubelet")
    names = " ".join(Config.objects.order_by("pk").values_list("digest", flat=True))
    page = superuser().post(f"{PAUSES}add/", {"configs": names, "until": ""}, follow=True).content.decode()
    assert "is an endpoint check" in page
    assert paused() == []


def test_a_plan_that_can_not_have_the_lock_says_so_and_can_be_applied_again() -> None:
    dispatcher.pause(ids()[:1])
    client = superuser()
    plan = shown(client, PAUSES, action="resume", _selected_action=Pause.objects.get().pk)

    def impatient() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
        return apply(client, plan)

    with transaction.atomic():
        ClusterStore.objects.lock()
        page = Session(impatient).finish()
    assert "Nothing was moved: canceling statement due to lock timeout" in page
    assert "Apply it again." in page
    assert paused() == ids()[:1]
    apply(client, plan)
    assert paused() == []


def test_after_a_step_that_took_long_the_next_get_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    now = 0.0
    monkeypatch.setattr(turns, "CHUNK", 1000)
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: now))

    def take(seconds: Iterator[float]) -> Callable[[Sequence[int]], list[Move]]:
        def step(chunk: Sequence[int]) -> list[Move]:
            nonlocal now
            now += next(seconds)
            sizes.append(len(chunk))
            return []

        return step

    turns.in_chunks(range(2200), take(repeat(0.3)))
    assert sizes == [1000, 500, 250, 125, 100, 100, 100, 25]
    sizes.clear()
    turns.in_chunks(range(4000), take(iter([0.3, 0.1, 0.05, 0.05, 0.05])))
    assert sizes == [1000, 500, 500, 1000, 1000]


VERBS: dict[str, Callable[[], Any]] = {
    "schedule": lambda: dispatcher.schedule([sent("new")]),
    "unschedule": lambda: dispatcher.unschedule([("file", "c0")]),
    "expire": lambda: (silence("ash"), dispatcher.expire_nodes(force=True)),
    "redispatch": lambda: dispatcher.redispatch(force=True),
    "reassign": lambda: dispatcher.reassign(ids()[2:3], "ash", actor="olga"),
    "pin": lambda: dispatcher.pin(ids()[:1], "ash"),
    "pause": lambda: dispatcher.pause(ids()[:1]),
    "resume": lambda: dispatcher.resume(Pause.objects.values_list("config_id", flat=True)),
    "isolate": lambda: dispatcher.isolate(ids()[2:3]),
    "undo": lambda: dispatcher.undo(Move.objects.values_list("pk", flat=True), actor="olga"),
    "put": lambda: origins.put("admin", "new", config()),
    "rebalance": lambda: plans.rebalance(actor="olga", force=True, unlimited=True),
    "apply": lambda: plans.apply(plans.store(deciding.pause(ids()[:1]), author="olga"), actor="olga"),
    "rules": lambda: NodeRule.objects.apply(),
}


def owner_other_than(config: int) -> str:
    return str(Node.objects.exclude(assignments__config=config).values_list("name", flat=True)[0])


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_verb_inside_of_another_transaction_fails_loudly(verb: Callable[[], Any]) -> None:
    """It would hold its lock until the outer transaction ends, however many chunks there are."""
    furnish(ash=[0.4] * 6, birch=[], cedar=[])
    dispatcher.pause(ids()[:1])
    dispatcher.reassign(ids()[3:4], owner_other_than(ids()[3]), actor="olga")
    Config.objects.filter(pk=ids()[1]).update(dangling_since="2026-01-01T00:00:00Z")
    Assignment.objects.filter(config=ids()[1]).delete()
    NodeRule.objects.create(labels={"zone": "a"})
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        verb()


def test_what_nobody_may_see_a_part_of_takes_no_more_than_a_chunk() -> None:
    with pytest.raises(RuntimeError, match="4 are too many"), dispatcher.single_transaction():
        dispatcher.pause(ids())
    with dispatcher.single_transaction():
        dispatcher.pause(ids()[:2])
        dispatcher.pause(ids()[2:])
    assert paused() == ids()


def test_a_node_with_more_than_a_chunk_is_lost_at_once_and_emptied_in_steps() -> None:
    Assignment.objects.update(node=Node.objects.get(name="ash"))
    silence("ash")
    between = seen_between(dispatcher.expire_nodes, lambda: (dangling(), Node.objects.lost().get().name))
    assert between == ({"c0", "c1"}, "ash")
    assert dangling() == {"c0", "c1", "c2", "c3"}


def test_a_pass_empties_what_another_left_midway() -> None:
    Assignment.objects.update(node=Node.objects.get(name="ash"))
    silence("ash")
    turns_left = iter([None])

    def stop(execute: Callable[..., Any], statement: str, *args: Any) -> Any:
        if "DELETE FROM checks_assignment" in statement and next(turns_left, "broken") == "broken":
            raise KeyboardInterrupt
        return execute(statement, *args)

    with pytest.raises(KeyboardInterrupt), connection.execute_wrapper(stop):
        dispatcher.expire_nodes()
    assert dangling() == {"c0", "c1"}
    assert len(dispatcher.expire_nodes()) == 2
    assert dangling() == {"c0", "c1", "c2", "c3"}


def test_a_node_that_is_back_midway_keeps_the_rest_and_is_told_of_what_it_lost() -> None:
    Assignment.objects.update(node=Node.objects.get(name="ash"))
    version = Node.objects.get(name="ash").config_version
    silence("ash")
    with transaction.atomic():
        lose_expired(Node.objects.filter(name="ash"))
        node = Node.objects.get(name="ash")
        Assignment.objects.take_away([node.pk], most=2, reason="expired", term=1)
    assert note_heartbeat("ash", last_change=version) is False
    assert dispatcher.expire_nodes() == []
    assert {key for key, owner in owners().items() if owner == "ash"} == {"c2", "c3"}
    share = Config.objects.shares_of(["ash"])[0]
    assert share is not None
    assert share.unsure


def test_the_end_of_the_warm_up_places_no_more_than_a_chunk_in_its_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    Assignment.objects.all().delete()
    Config.objects.update(dangling_since="2026-01-01T00:00:00Z")
    Hearing.objects.update(warmup=True, warm_until="2026-01-01T00:00:00Z")
    redispatch_all = dispatcher.placing._redispatch_all

    def and_meanwhile(*args: Any) -> Any:
        dispatcher.schedule([sent(f"late{i}") for i in range(5)])
        return redispatch_all(*args)

    monkeypatch.setattr(dispatcher.placing, "_redispatch_all", and_meanwhile)
    sizes = []
    place = dispatcher.placing._place_dangling
    monkeypatch.setattr(
        dispatcher.placing,
        "_place_dangling",
        lambda turn, ids, *rest: sizes.append(len(ids)) or place(turn, ids, *rest),
    )
    assert len(dispatcher.redispatch()) == 9
    assert max(sizes) <= 2
    assert not Hearing.objects.get().warmup
    assert dangling() == set()


def test_each_chunk_of_a_long_redispatch_shows_that_the_leader_lives() -> None:
    """The pass after one that was killed must not take the time between them for deafness."""

    def redispatched(term: int | None) -> Any:
        Assignment.objects.all().delete()
        Config.objects.update(dangling_since="2026-01-01T00:00:00Z")
        Hearing.objects.update(last_pass=None)
        return seen_between(
            lambda: dispatcher.redispatch(term=term, force=True),
            lambda: (len(owners()), Hearing.objects.get().last_pass),
        )

    placed, sign = redispatched(ClusterStore.objects.get().term)
    assert placed == 2
    assert sign is not None
    assert redispatched(None) == (2, None), "a person is no leader"


def test_of_several_isolated_configs_on_a_node_the_first_stays() -> None:
    Assignment.objects.update(node=Node.objects.get(name="ash"))
    dispatcher.isolate(ids()[:2])
    assert owners()["c0"] == "ash"
    assert owners()["c1"] != "ash"
    assert [key for key, node in owners().items() if node == "ash"] == ["c0"]
    assert [key for key, node in owners().items() if node == owners()["c1"]] == ["c1"]


def test_configs_are_isolated_all_or_none_of_them() -> None:
    dispatcher.pause(ids()[1:2])
    with pytest.raises(dispatcher.NotDispatchable, match="is paused"):
        dispatcher.isolate(ids()[:2])
    assert not Isolation.objects.exists()
    assert not Pin.objects.exists()


def test_a_config_with_more_shards_than_a_chunk_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = tuple(f"url: http://{number}\n" for number in range(5))
    origins.put("admin", "many", config(instances=urls))
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    monkeypatch.setattr(dispatcher, "CHUNK", 2)
    origins.put("admin", "many", config(instances=urls))
    assert {key for key in owners() if key.startswith("many")} == {f"many#{number}" for number in range(5)}
