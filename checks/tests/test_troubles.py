"""Troubles are found in the runners' stats, keep their beginning, and are deleted once they are over."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from checks import dispatcher
from checks.explain import alerts, facts, failures, history
from checks.models import Assignment, Config, Instance
from checks.models.handovers import Handover, Promise
from checks.models.troubles import Trouble, error_line
from checks.tests.cast import report, sent
from clusteragent.lib import clock
from nodes.models import Heartbeat, Node, NodeEvent, Runner, RunnerStats
from nodes.models.runners import Answer, CheckStats

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def check_id(key: str) -> str:
    return Instance.objects.get(config__origins__key=key).check_id


def told(check: str, *, ms: float = 100, failed: bool = False, error: str = "") -> CheckStats:
    return CheckStats(check, ms, failed, error)


def round_of(*stats: CheckStats, node: str = "ash") -> set[tuple[str, str]]:
    """Let the node report these stats. Return the troubles: (origin's key, kind)."""
    Runner.objects.note({Node.objects.get(name=node).pk: Answer(stats)})
    Trouble.objects.note()
    return set(Trouble.objects.current().values_list("config__origins__key", "kind"))


@pytest.fixture(autouse=True)
def one(warm: None) -> None:
    """A config on ash, which fetched it."""
    report("ash", "birch")
    dispatcher.schedule([sent("one")])
    fetch()


def fetch() -> None:
    version = Node.objects.get(name="ash").config_version
    Heartbeat.objects.filter(node__name="ash").update(acknowledged=version)


def grow_old(seconds: float) -> None:
    """The config was given to its node that long ago."""
    ago = Now() - timedelta(seconds=seconds)
    Assignment.objects.update(since=ago)
    Config.objects.update(changed=ago)


def test_a_check_that_runs_well_is_no_trouble() -> None:
    grow_old(500)
    assert round_of(told(check_id("one"))) == set()


def test_a_check_whose_last_run_failed() -> None:
    assert round_of(told(check_id("one"), failed=True)) == {("one", "failing")}


@pytest.mark.parametrize(("kind", "bad"), [("failing", {"failed": True}), ("slow", {"ms": 20_000})])
def test_a_trouble_outlives_a_restart_of_its_node_until_the_check_ran_there_again(
    kind: str, bad: dict[str, Any]
) -> None:
    assert round_of(told(check_id("one"), **bad)) == {("one", kind)}
    since = timezone.now() - timedelta(minutes=20)
    Assignment.objects.update(since=since - timedelta(minutes=1))
    assert round_of() == set(), "nothing restarted"
    round_of(told(check_id("one"), **bad))
    Trouble.objects.update(since=since)
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.RESTARTED)
    assert round_of() == {("one", kind)}
    assert round_of(told(check_id("one"), **bad)) == {("one", kind)}
    assert Trouble.objects.get().since == since
    # The node has had time to run it.
    NodeEvent.objects.update(time=F("time") - timedelta(minutes=4))
    assert round_of() == set()


def test_a_good_run_ends_it_after_a_restart_too() -> None:
    round_of(told(check_id("one"), failed=True))
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.RESTARTED)
    assert round_of(told(check_id("one"))) == set()


def test_a_check_that_takes_longer_than_its_interval() -> None:
    assert round_of(told(check_id("one"), ms=15_000)) == set()
    assert round_of(told(check_id("one"), ms=15_001)) == {("one", "slow")}
    Instance.objects.update(interval=60)
    assert round_of(told(check_id("one"), ms=15_001)) == set()


def tell_everywhere(ash: float, birch: float, cedar: float) -> set[tuple[str, str]]:
    """Let http_check take so many ms on each node: two instances and one that is quick. Return the troubles."""
    report("cedar")
    nodes = dict(Node.objects.values_list("name", "pk"))
    keys = [(name, f"{name}-{number}") for name in nodes for number in range(3)]
    dispatcher.schedule([sent(key) for _, key in keys])
    for name, key in keys:
        Assignment.objects.filter(config__origins__key=key).update(node=nodes[name])
    Config.objects.filter(origins__key="one").delete()
    times = {"ash": ash, "birch": birch, "cedar": cedar}
    answers = {
        nodes[name]: Answer([told(check_id(f"{name}-{n}"), ms=times[name] if n else 5) for n in range(3)])
        for name in nodes
    }
    Runner.objects.note(answers)
    Trouble.objects.note()
    return set(Trouble.objects.current().values_list("config__origins__key", "kind"))


def test_a_check_that_takes_nearly_its_interval_on_most_nodes_is_slow_everywhere() -> None:
    assert tell_everywhere(12_500, 13_500, 400) == {
        (f"{name}-{number}", "slow_everywhere") for name in ("ash", "birch") for number in (1, 2)
    }
    assert Trouble.objects.everywhere() == [("http_check", 2, 4, 13_000, 15, ["file"])]


def test_a_check_that_is_slow_on_one_node_or_not_slow_enough_is_not_slow_everywhere() -> None:
    assert tell_everywhere(14_000, 400, 400) == set()
    assert tell_everywhere(11_900, 11_900, 11_900) == set()
    assert Trouble.objects.everywhere() == []


def test_a_check_that_its_node_does_not_tell_of() -> None:
    grow_old(80)
    assert round_of() == set()
    grow_old(125)
    assert round_of() == {("one", "not_running")}


def test_a_check_that_runs_rarely_has_time_to_run() -> None:
    Instance.objects.update(interval=3600)
    grow_old(10_700)
    assert round_of() == set()
    grow_old(10_900)
    assert round_of() == {("one", "not_running")}


def test_a_check_that_was_edited_has_time_to_run() -> None:
    grow_old(500)
    Config.objects.update(changed=Now())
    assert round_of() == set()


def test_a_check_that_is_told_by_its_bare_name_runs() -> None:
    grow_old(500)
    assert round_of(told("http_check")) == set()


def test_a_check_whose_key_the_agent_changed_runs() -> None:
    """As with nameless instances of snmp: the runner has an unknown check of that name."""
    grow_old(500)
    assert round_of(told("http_check:1f")) == set()
    assert round_of(told("https_check:1f")) == {("one", "not_running")}


def test_a_check_of_that_name_which_is_another_of_ours_does_not_stand_for_it() -> None:
    dispatcher.schedule([sent("two")])
    grow_old(500)
    assert round_of(told(check_id("two"))) == {("one", "not_running")}


def test_a_node_that_did_not_fetch_it_yet_is_not_blamed() -> None:
    grow_old(500)
    Heartbeat.objects.update(acknowledged=1)
    assert round_of() == set()


def test_a_version_that_the_node_was_never_given_is_no_fetch() -> None:
    grow_old(500)
    Heartbeat.objects.update(acknowledged=2**63 - 1)
    assert round_of() == set()


def test_a_node_that_never_lost_it_is_blamed() -> None:
    grow_old(500)
    Node.objects.update(config_version=7)
    Heartbeat.objects.update(acknowledged=7)
    assert round_of() == {("one", "not_running")}


def test_a_node_that_gets_it_when_another_has_stopped_it_is_not_blamed() -> None:
    grow_old(500)
    config, birch = Config.objects.get(), Node.objects.get(name="birch")
    Handover.objects.create(config=config, source=birch, promise=Promise.STRICT, given=7)
    assert round_of() == set()


def test_a_node_that_no_longer_answers_is_not_judged() -> None:
    grow_old(500)
    assert round_of() == {("one", "not_running")}
    Runner.objects.note({Node.objects.get(name="ash").pk: Answer(None, error="no answer")})
    Trouble.objects.note()
    assert not Trouble.objects.exists()


def test_a_node_that_was_never_asked_says_nothing() -> None:
    grow_old(500)
    assert Trouble.objects.note() == 0


def test_stats_from_before_it_came_say_nothing() -> None:
    grow_old(500)
    round_of(told(check_id("one")))
    Runner.objects.update(stats_at=F("stats_at") - timedelta(seconds=600))
    RunnerStats.objects.all().delete()
    assert Trouble.objects.note() == 0


def test_what_another_node_tells_of_it_does_not_count() -> None:
    assert round_of(told(check_id("one"), failed=True), node="birch") == set()


def test_a_trouble_keeps_the_time_since_when() -> None:
    round_of(told(check_id("one"), failed=True))
    Trouble.objects.update(since=Now() - timedelta(hours=1))
    since = Trouble.objects.get().since
    round_of(told(check_id("one"), failed=True))
    assert Trouble.objects.get().since == since


def test_a_trouble_is_forgotten_once_it_is_over() -> None:
    round_of(told(check_id("one"), failed=True))
    assert round_of(told(check_id("one"))) == set()
    assert not Trouble.objects.exists()


def test_what_dangles_or_is_gone_is_no_trouble_of_a_check() -> None:
    round_of(told(check_id("one"), failed=True))
    dispatcher.unschedule([("file", "one")])
    assert not Trouble.objects.current().exists()
    Trouble.objects.note()
    assert not Trouble.objects.exists()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("", ""),
        ("connection refused", "connection refused"),
        ('[{"message": "no route", "traceback": "Traceback…"}]', "no route"),
        ("first\nsecond", "first second"),
        ("can't log in with password: hunter2secret", "can't log in with password: ********"),
        ('[{"message": "token=hunter2secret refused"}]', "token=******** refused"),
        ('[{"traceback": "x"}]', '[{"traceback": "x"}]'),
        ("[]", "[]"),
        ("7", "7"),
        ("x" * 500, "x" * 199 + "…"),
        ("no route " * 30, "no route " * 21 + "no route…"),
    ],
)
def test_an_error_is_told_in_a_line_without_secrets(told: str, shown: str) -> None:
    assert error_line(told) == shown


def move(to: str, seconds_ago: float = 0) -> None:
    Assignment.objects.update(node=Node.objects.get(name=to), since=Now() - timedelta(seconds=seconds_ago))


def failing() -> Trouble:
    return Trouble.objects.get(kind=Trouble.Kind.FAILING)


def test_a_failure_keeps_its_time_and_its_error_over_a_move() -> None:
    grow_old(1000)
    round_of(told(check_id("one"), failed=True, error="refused"))
    Trouble.objects.update(since=Now() - timedelta(hours=3))
    since = failing().since
    move("birch")
    assert round_of() == {("one", "failing")}
    assert round_of(node="birch") == {("one", "failing")}
    assert facts.of(Config.objects.get()).error == "refused (on its former node)"
    assert [one.example for one in failures.read().told] == ["refused"]
    assert [one.cause for one in alerts.current() if one.kind == alerts.Kind.FAILING] == [
        "The last run of http_check one failed: refused."
    ]
    round_of(told(check_id("one"), failed=True, error="timed out"), node="birch")
    assert (failing().since, failing().last_error) == (since, "timed out")
    assert facts.of(Config.objects.get()).error == "timed out"


def test_a_failure_keeps_its_last_good_run_over_a_move_to_a_node_that_knows_of_none() -> None:
    good = timezone.now().replace(microsecond=0) - timedelta(hours=1)

    def bad(succeeded: int | None) -> CheckStats:
        return told(check_id("one"), failed=True)._replace(last_success=succeeded)

    round_of(bad(int(good.timestamp())))
    move("birch")
    assert [one.last_good for one in failures.read().told] == [good], "before the new node told of it"
    for unknown in (0, None, 2**62):
        round_of(bad(unknown), node="birch")
        assert [failing().last_good, *(one.last_good for one in failures.read().told)] == [good, good]
    later = good + timedelta(minutes=30)
    round_of(bad(int(later.timestamp())), node="birch")
    assert failing().last_good == later


def test_a_runner_that_tells_no_good_run_is_known_by_the_minutes_before() -> None:
    """Those from before 2026 tell none."""
    check = check_id("one")
    now = clock.now()
    round_of(told(check))
    history.note(now - timedelta(minutes=3))
    round_of(told(check, failed=True))
    good = failing().last_good
    assert good == (now - timedelta(minutes=4)).replace(second=0, microsecond=0)
    history.note(now - timedelta(minutes=1))
    round_of(told(check, failed=True, error="again"))
    assert failing().last_good == good


def test_without_a_good_minute_lately_no_good_run_is_known() -> None:
    check = check_id("one")
    round_of(told(check))
    history.note(clock.now() - timedelta(minutes=20))
    round_of(told(check, failed=True))
    assert failing().last_good is None


def test_a_time_that_can_be_none_is_no_last_good_run() -> None:
    for moment in (0, None, -5, 2**62, int(timezone.now().timestamp()) + 7200):
        round_of(told(check_id("one"), failed=True)._replace(last_success=moment))
        assert failing().last_good is None


def test_a_failure_is_over_when_the_new_node_runs_it_well() -> None:
    grow_old(1000)
    round_of(told(check_id("one"), failed=True))
    move("birch")
    assert round_of(told(check_id("one")), node="birch") == set()


def test_a_failure_is_forgotten_where_the_new_node_never_tells_of_it() -> None:
    grow_old(1000)
    round_of(told(check_id("one"), failed=True))
    Trouble.objects.update(since=Now() - timedelta(hours=3))
    move("birch", seconds_ago=170)
    assert round_of() == {("one", "failing")}
    move("birch", seconds_ago=190)
    assert round_of() == set()


def test_a_failure_is_over_where_it_is_if_its_node_tells_of_it_no_more() -> None:
    grow_old(100)
    assert round_of(told(check_id("one"), failed=True)) == {("one", "failing")}
    assert round_of() == set()


def test_only_new_troubles_are_counted() -> None:
    Runner.objects.note({Node.objects.get(name="ash").pk: Answer([told(check_id("one"), failed=True, error="a")])})
    assert Trouble.objects.note() == 1
    Runner.objects.note({Node.objects.get(name="ash").pk: Answer([told(check_id("one"), failed=True, error="b")])})
    assert Trouble.objects.note() == 0
    assert failing().last_error == "b"
