"""How configs stand: a word, a reason and a node for each, in as many queries for a thousand as for one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.explain import facts, standing
from checks.explain.facts import Truth
from checks.explain.standing import Standing, State
from checks.models import Assignment, Config, Origin
from checks.models.orders import Pin, Rule
from checks.tests.cast import report, sent
from nodes.models import Heartbeat, Node, Runner, RunnerStats

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def stand(key: str = "db") -> Standing:
    return standing.under("file", [key])[key]


def words(key: str = "db") -> tuple[str, str, str]:
    found = stand(key)
    return str(found.state), found.reason, found.node


def pk(key: str = "db") -> int:
    return Config.objects.get(origins__key=key).pk


def schedule(*keys: str, **fields: object) -> None:
    dispatcher.schedule([sent(key, **fields) for key in keys])


def fetch(node: str = "ash") -> None:
    """The node fetches all that it has."""
    Heartbeat.objects.filter(node__name=node).update(acknowledged=Node.objects.get(name=node).config_version)


def tell(key: str = "db", node: str = "ash", **stats: Any) -> None:
    """The node's runner reports a config's checks."""
    row, _ = Runner.objects.update_or_create(node=Node.objects.get(name=node), defaults={"stats_at": Now()})
    for instance in Config.objects.get(origins__key=key).instances.all():
        values = {"execution_ms": 20, "failed": False, "last_error": "", **stats}
        RunnerStats.objects.update_or_create(node=row.node, check_id=instance.check_id, defaults=values)


def test_a_node_that_never_lost_a_config_has_acknowledged_it() -> None:
    report("ash")
    schedule("db")
    fetch()
    Assignment.objects.update(since=Now() + timedelta(seconds=1))
    assert words()[0] == "Acknowledged"


def test_a_version_that_the_node_was_never_given_acknowledges_nothing() -> None:
    report("ash")
    schedule("db")
    Heartbeat.objects.update(acknowledged=2**63 - 1)
    assert words() == ("Assigned", "ash has not fetched this version yet", "ash")


def test_a_config_is_assigned_then_acknowledged_then_running() -> None:
    report("ash")
    schedule("db")
    assert words() == ("Assigned", "ash has not fetched this version yet", "ash")
    assert not stand().is_ready
    fetch()
    assert words() == ("Acknowledged", "no stats from ash", "ash")
    assert stand().is_ready
    tell()
    assert words() == ("Running", "", "ash")
    assert stand().is_ready
    assert stand().id == Config.objects.get().short_id


def test_the_stats_of_before_a_move_say_nothing_of_after_it() -> None:
    report("ash")
    schedule("db")
    fetch()
    tell(failed=True, last_error="no route")
    Runner.objects.update(stats_at=Now() - timedelta(minutes=1))
    assert words() == ("Acknowledged", "ash sent no stats since then", "ash")
    assert not stand().is_ready


def test_an_edit_is_not_running_before_its_node_has_it() -> None:
    report("ash")
    schedule("db")
    fetch()
    tell()
    schedule("db", init_config="{a: 1}")
    tell()
    assert words()[0] == "Assigned"


def test_the_last_error_is_one_line_without_secrets() -> None:
    report("ash")
    schedule("db")
    fetch()
    tell(failed=True, last_error='[{"message": "password=hunter22\\nrefused \\u001b[31m"}]')
    assert words() == ("Failing", "password=******** refused \\x1b[31m", "ash")
    assert not stand().is_ready


def test_without_nodes_it_dangles_and_says_why() -> None:
    schedule("db")
    assert words() == ("Dangling", "no node reports, so no node can run it", "")


def test_why_no_node_can_have_it_is_the_commonest_reason() -> None:
    report("ash", "birch")
    Rule.objects.create(name="east", check_pattern="*", required={"zone": "east"})
    schedule("db")
    assert words() == ("Dangling", "no node can have it: rule east: it requires zone=east", "")


def test_a_node_that_may_have_it_will_get_it() -> None:
    schedule("db")
    report("ash")
    assert words() == ("Dangling", "it waits to be placed", "")


def test_an_operators_pause_says_who_and_until_when() -> None:
    report("ash")
    schedule("db")
    until = datetime(2038, 1, 1, 12, 30, tzinfo=UTC)
    dispatcher.pause([pk()], actor="alice", until=until)
    assert words() == ("Paused", "paused by alice until 2038-01-01 12:30 UTC", "")
    assert stand().overrides == {"pause": "paused by alice until 2038-01-01 12:30 UTC"}


@pytest.mark.parametrize(
    ("waits", "said"),
    [(False, "pinned to the node ash by alice"), (True, "pinned to the node ash, or it waits, by alice")],
)
def test_an_operators_pin_is_an_override(waits: bool, said: str) -> None:
    report("ash")
    schedule("db")
    dispatcher.pin([pk()], "ash", actor="alice", waits=waits)
    assert stand().overrides == {"pin": said}


@pytest.mark.parametrize("tells_stats", [False, True])
def test_a_pin_that_no_node_can_follow_says_so_where_it_runs(tells_stats: bool) -> None:
    report("ash", "birch")
    schedule("db")
    fetch(stand().node)
    if tells_stats:
        tell(node=stand().node)
    other = "birch" if stand().node == "ash" else "ash"
    Pin.objects.create(config_id=pk(), source="file", key="db", aim=other)
    assert stand().reason == f"pinned to the node {other}, but no such node accepts it: it runs elsewhere"
    assert stand().is_ready
    Pin.objects.update(kind=Pin.Kind.LABEL, aim="zone=a")
    Node.objects.update(labels={"zone": "a"})
    assert stand().reason == ("" if tells_stats else f"no stats from {stand().node}")


def test_what_a_node_said_counts_no_more_when_it_is_not_heard() -> None:
    report("ash")
    schedule("db")
    fetch()
    tell()
    assert stand().is_ready
    Heartbeat.objects.update(seen_at=Now() - timedelta(seconds=31))
    assert (words(), stand().is_ready) == (("Assigned", "ash is not heard any more", "ash"), False)


def test_old_stats_say_nothing_of_what_runs_now() -> None:
    report("ash")
    schedule("db")
    fetch()
    Assignment.objects.update(since=Now() - timedelta(days=1))
    Config.objects.update(changed=Now() - timedelta(days=1))
    tell()
    assert stand().is_ready
    Runner.objects.update(stats_at=Now() - timedelta(minutes=6))
    assert (words(), stand().is_ready) == (("Acknowledged", "no stats from ash any more", "ash"), False)


def test_a_pin_that_is_over_is_no_override() -> None:
    report("ash", "birch")
    schedule("db")
    Pin.objects.create(config_id=pk(), source="file", key="db", aim="oak", until=Now() - timedelta(seconds=1))
    fetch(stand().node)
    assert (stand().overrides, stand().reason) == ({}, f"no stats from {stand().node}")


def test_an_order_without_an_author_ends_without_a_comma() -> None:
    report("ash")
    schedule("db")
    Pin.objects.create(config_id=pk(), source="file", key="db", aim="ash", waits=True)
    assert stand().overrides == {"pin": "pinned to the node ash, or it waits"}


def test_an_endpoint_check_is_assigned_to_its_node_from_the_beginning() -> None:
    report("ash")
    schedule("db", node_name="ash", cluster_check=False)
    assert words() == ("Assigned", "node agents don't say which endpoint checks they fetched", "ash")


def test_an_endpoint_check_of_a_node_that_is_not_there() -> None:
    schedule("db", node_name="ash", cluster_check=False)
    assert words() == ("Assigned", "no node has it", "ash")


def test_shards_stand_together_as_the_worst_of_them() -> None:
    report("ash", "birch")
    schedule("db#0", "db#1")
    fetch("ash")
    fetch("birch")
    first, second = Config.objects.order_by("origins__key")
    owner = Assignment.objects.get(config=first).node.name
    assert stand().node == "ash, birch"
    assert (stand().state, stand().is_ready) == (State.ACKNOWLEDGED, True)
    tell("db#0", owner, failed=True, last_error="no route")
    assert (stand().state, stand().reason, stand().is_ready) == (State.FAILING, "no route", False)
    assert stand().id == f"{first.short_id}, {second.short_id}"


def test_keys_with_one_config_stand_alike() -> None:
    report("ash")
    schedule("db", "other", url="http://same")
    found = standing.under("file", ["db", "other"])
    assert found["db"] == found["other"]


def test_what_is_sent_nowhere_does_not_stand() -> None:
    assert standing.under("file", ["db"]) == {}


def test_nothing_is_said_that_changes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    report("ash")
    schedule("db")
    before = stand()
    Assignment.objects.update(since=Now() - timedelta(hours=3))
    Heartbeat.objects.update(seen_at=Now() - timedelta(seconds=3))
    assert stand() == before


def fill(number: int, begin: str) -> None:
    """Configs in each state."""
    keys = [f"{begin}/{each}" for each in range(number)]
    schedule(*keys)
    third = number // 3
    dispatcher.pause([pk(key) for key in keys[:third]], actor="alice")
    Rule.objects.get_or_create(name="east", check_pattern="nowhere", required={"zone": "east"})
    dispatcher.schedule([sent(f"{begin}/dangling{each}", name="nowhere") for each in range(third)])
    fetch("ash")
    for key in keys[third:]:
        tell(key, Assignment.objects.get(config__origins__key=key).node.name, failed=key.endswith("1"))


def statements(work: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as made:
        work()
    return len(made)


def test_the_number_of_queries_does_not_grow() -> None:
    report("ash", "birch")
    fill(3, "few")
    few = statements(lambda: standing.under("file", ["few/"]))
    fill(30, "many")
    assert statements(lambda: standing.under("file", ["many/"])) == few
    assert len(standing.under("file", ["many/"])) == 40


def test_facts_of_many_are_the_facts_of_each() -> None:
    report("ash", "birch")
    fill(12, "db")
    schedule("endpoint", node_name="birch", cluster_check=False)
    together = facts.of_many(list(Config.objects.all()))
    assert len(together) == 17
    assert {fact.truth for known in together.values() for fact in known.three} == set(Truth)
    for config in Config.objects.all():
        known, alone = together[config.pk], facts.of(config)
        assert [(one.truth, one.details) for one in known.three] == [(one.truth, one.details) for one in alone.three]
        assert (known.node, known.error, known.tells_stats) == (alone.node, alone.error, alone.tells_stats)
        assert [run.stats for run in known.runs] == [run.stats for run in alone.runs]


def test_every_origin_has_a_standing() -> None:
    report("ash")
    fill(6, "db")
    assert standing.under("file", ["db/"]).keys() == set(Origin.objects.values_list("key", flat=True))
