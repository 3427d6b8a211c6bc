"""Nodes that say goodbye: what we believe of them from then on, and what ends it."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from clusteragent.lib import conf
from nodes.goodbyes import note_goodbye, void_goodbyes
from nodes.hearing import listen, lose_expired, note_silent, too_many_leave
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, UnknownNode
from nodes.models.heartbeats import Report
from nodes.models.nodes import RESTART_TIME
from nodes.registration import FAREWELL_TIME
from tests.map import tell

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

TIMEOUT = conf.NODE_EXPIRATION_TIMEOUT
AGENT = {"HTTP_AUTHORIZATION": f"Bearer {conf.AUTH_TOKEN}"}
LEAVING, RESTARTING = '{"kind": "leaving"}', '{"kind": "restarting"}'


def report(*names: str, last_change: int = 0) -> None:
    for name in names:
        note_heartbeat(name, last_change=last_change)


def work(*names: str) -> None:
    """These nodes have had a config, and said so."""
    report(*names)
    Node.objects.filter(name__in=names).update(config_version=7)
    report(*names, last_change=7)


def silence(*names: str, seconds: float = TIMEOUT.total_seconds() + 1) -> None:
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - timedelta(seconds=seconds))


def accepting() -> set[str]:
    return set(Node.objects.accepting().values_list("name", flat=True))


def events(name: str) -> list[tuple[str, str]]:
    return list(NodeEvent.objects.filter(node_name=name).order_by("pk").values_list("kind", "cause"))


@pytest.fixture
def agents_port(settings) -> None:
    settings.ROOT_URLCONF = "clusteragent.urls.agents"


@pytest.mark.usefixtures("agents_port")
class TestRoute:
    @pytest.mark.parametrize("prefix", ["/api/v1", "/v1/api"])
    @pytest.mark.parametrize(("body", "kind"), [(LEAVING, "leaving"), (RESTARTING, "restarting")])
    def test_a_node_says_goodbye_on_both_prefixes(self, client: Client, prefix: str, body: str, kind: str):
        report("ash")
        answer = client.post(
            f"{prefix}/clusterchecks/goodbye/ash",
            body,
            content_type="application/x-www-form-urlencoded",
            **AGENT,
        )
        assert (answer.status_code, answer.content) == (200, b"{}")
        assert events("ash")[-1] == (kind, "")

    def test_an_unknown_node_is_answered_as_when_it_asks_for_its_configs(self, client: Client):
        answer = client.post("/api/v1/clusterchecks/goodbye/ash", LEAVING, content_type="application/json", **AGENT)
        assert (answer.status_code, answer.content) == (500, b"node ash is unknown\n")
        assert not Node.objects.exists()

    @pytest.mark.parametrize(
        "body", ["", "{}", "null", "[]", '{"kind": "gone"}', '{"kind": ["leaving"]}', '"leaving"', "{"]
    )
    def test_a_body_that_says_nothing_is_refused_and_changes_nothing(self, client: Client, body: str):
        report("ash")
        answer = client.post("/api/v1/clusterchecks/goodbye/ash", body, content_type="application/json", **AGENT)
        assert answer.status_code == 500
        assert answer.content.count(b"\n") == 1
        assert accepting() == {"ash"}

    @pytest.mark.parametrize("token", [conf.LOCAL_TOKEN, "x" * 32, ""])
    def test_only_the_node_agents_token_opens_it(self, client: Client, token: str):
        report("ash")
        header = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
        answer = client.post("/api/v1/clusterchecks/goodbye/ash", LEAVING, content_type="application/json", **header)
        assert answer.status_code == 403
        assert accepting() == {"ash"}


@pytest.mark.parametrize("kind", ["leaving", "restarting"])
def test_who_says_goodbye_gets_nothing_new(kind: str):
    work("ash", "birch")
    note_goodbye("ash", kind)
    assert accepting() == {"birch"}


def test_an_unknown_and_a_lost_node_can_not_leave():
    work("ash")
    Heartbeat.objects.all().delete()
    for name in ("ash", "birch"):
        with pytest.raises(UnknownNode, match=name):
            note_goodbye(name, "leaving")


def test_who_leaves_comes_back_with_a_fresh_start_and_not_with_a_report():
    work("ash")
    note_goodbye("ash", "leaving")
    for version in (7, -1, 8):
        report("ash", last_change=version)
        assert accepting() == set()
    report("ash", last_change=0)
    assert accepting() == {"ash"}
    assert events("ash")[-1] == ("restarted", NodeEvent.ANNOUNCED)


def test_who_never_had_a_config_reports_nothing_else_than_a_fresh_start_so_it_leaves_for_a_while():
    report("ash")
    note_goodbye("ash", "leaving")
    report("ash")
    assert accepting() == set()
    assert events("ash")[-1] == ("leaving", "")
    NodeEvent.objects.update(time=Now() - FAREWELL_TIME - timedelta(seconds=1))
    report("ash")
    assert accepting() == {"ash"}


def test_heartbeats_that_are_taken_together_end_a_goodbye_as_well():
    work("ash", "birch")
    note_goodbye("ash", "leaving")
    assert tell([Report("ash", 0), Report("birch", 7)]) == [False, True]
    assert accepting() == {"ash", "birch"}


def test_a_second_goodbye_says_nothing_new():
    work("ash")
    for kind in ("restarting", "restarting", "leaving", "leaving", "restarting"):
        note_goodbye("ash", kind)
    assert [kind for kind, _ in events("ash")][-2:] == ["restarting", "leaving"]
    ash = Node.objects.get()
    assert (ash.leaving, ash.kept_until) == (True, None)


def test_who_restarts_keeps_its_work_for_a_minute_however_silent():
    work("ash", "birch")
    note_goodbye("ash", "restarting")
    silence("ash")
    assert lose_expired(Node.objects.all()) == {}
    Node.objects.filter(name="ash").update(kept_until=Now())
    assert list(lose_expired(Node.objects.all()).values()) == ["ash"]
    assert events("ash")[-1] == ("expired", "")


def test_the_minute_is_counted_from_the_first_word():
    work("ash")
    note_goodbye("ash", "restarting")
    Node.objects.update(kept_until=Now() + timedelta(seconds=1))
    note_goodbye("ash", "restarting")
    assert Node.objects.filter(kept_until__lt=Now() + RESTART_TIME / 2).exists()


def test_a_forced_expiry_does_not_wait_for_who_restarts():
    work("ash")
    note_goodbye("ash", "restarting")
    silence("ash")
    assert list(lose_expired(Node.objects.all(), force=True).values()) == ["ash"]


def test_who_started_anew_in_time_gets_work_at_once():
    work("ash")
    note_goodbye("ash", "restarting")
    report("ash", last_change=0)
    assert accepting() == {"ash"}
    assert events("ash")[-1] == ("restarted", NodeEvent.ANNOUNCED)


def test_who_left_and_dies_is_no_alarm():
    work("ash", "birch")
    note_goodbye("ash", "leaving")
    silence("ash")
    assert note_silent() == []
    assert list(lose_expired(Node.objects.all()).values()) == ["ash"]
    assert events("ash")[-1] == ("expired", NodeEvent.ANNOUNCED)
    report("ash")
    assert accepting() == {"ash", "birch"}


def said_ago(*names: str, seconds: float) -> None:
    """As if they had said that they leave so long ago."""
    Node.objects.filter(name__in=names).update(left_at=Now() - timedelta(seconds=seconds))


def forget() -> None:
    """As if what was said was said long ago."""
    NodeEvent.objects.update(time=F("time") - timedelta(hours=2))


def braked() -> bool:
    listen()
    return Hearing.objects.get().braked_since is not None


OAKS = tuple(f"oak-{number}" for number in range(4))


class TestTooMany:
    """Goodbyes of more than half of the nodes within one timeout: anybody with the token can say them."""

    @pytest.fixture(autouse=True)
    def oaks(self) -> None:
        work("ash", "birch", *OAKS)

    def leave(self, *names: str, kind: str = "leaving") -> None:
        for name in names:
            note_goodbye(name, kind)

    @pytest.mark.parametrize("kind", ["leaving", "restarting"])
    def test_they_pull_the_brake(self, kind: str):
        self.leave(*OAKS, kind=kind)
        assert braked()
        silence(*OAKS)
        assert lose_expired(Node.objects.all()) == {}

    def test_half_of_the_nodes_do_not(self):
        self.leave(*OAKS[:3])
        assert not braked()
        silence(*OAKS[:3])
        assert set(lose_expired(Node.objects.all()).values()) == set(OAKS[:3])

    def test_those_that_newcomers_replace_one_for_one_do_not(self):
        self.leave(*OAKS)
        report(*(f"new-{number}" for number in range(4)))
        assert not braked()

    def test_those_of_a_rollout_that_takes_longer_than_a_timeout_do_not(self):
        self.leave(*OAKS)
        said_ago(*OAKS[:2], seconds=TIMEOUT.total_seconds() + 1)
        assert not braked()

    def test_who_started_anew_counts_no_more(self):
        self.leave(*OAKS, kind="restarting")
        report(*OAKS)
        assert not braked()

    def test_the_brake_is_off_again_a_timeout_later(self):
        self.leave(*OAKS)
        assert braked()
        said_ago(*OAKS, seconds=TIMEOUT.total_seconds() + 1)
        assert not braked()

    def test_so_many_must_be_silent_too_before_what_they_have_goes_to_others(self):
        self.leave(*OAKS)
        assert too_many_leave()
        Node.objects.filter(name="oak-0").update(leaving=False)
        assert not too_many_leave()


class TestVoid:
    """A goodbye of a node that lives on. Anybody with the token can say it in that node's name."""

    HOLDS = conf.GOODBYE_HOLDS.total_seconds()

    @pytest.fixture(autouse=True)
    def trees(self) -> None:
        work("ash", "birch")

    def test_who_still_reports_two_minutes_later_did_not_leave(self):
        note_goodbye("ash", "leaving")
        said_ago("ash", seconds=self.HOLDS - 5)
        assert void_goodbyes() == []
        said_ago("ash", seconds=self.HOLDS + 1)
        assert void_goodbyes() == ["ash"]
        assert accepting() == {"ash", "birch"}
        assert events("ash")[-1] == ("goodbye void", "it still reports")

    def test_who_is_silent_since_then_left(self):
        note_goodbye("ash", "leaving")
        said_ago("ash", seconds=self.HOLDS + 20)
        silence("ash", seconds=25)
        assert void_goodbyes() == []
        assert accepting() == {"birch"}

    def test_zero_is_never(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "GOODBYE_HOLDS", timedelta(0))
        note_goodbye("ash", "leaving")
        said_ago("ash", seconds=self.HOLDS * 100)
        assert void_goodbyes() == []

    def test_a_goodbye_said_to_an_older_release_counts_from_now_on(self):
        Node.objects.filter(name="ash").update(leaving=True)
        assert void_goodbyes() == []
        assert Node.objects.get(name="ash").left_at is not None

    def test_who_did_not_restart_within_the_minute_gets_work_again(self):
        note_goodbye("ash", "restarting")
        assert void_goodbyes() == []
        Node.objects.filter(name="ash").update(kept_until=Now() - timedelta(seconds=1))
        report("ash", last_change=7)
        assert void_goodbyes() == ["ash"]

    @pytest.mark.parametrize("kind", ["leaving", "restarting"])
    def test_who_broke_its_word_is_not_believed_for_an_hour(self, kind: str):
        note_goodbye("ash", "leaving")
        said_ago("ash", seconds=self.HOLDS + 1)
        void_goodbyes()
        note_goodbye("ash", kind)
        assert accepting() == {"ash", "birch"}
        report("ash", last_change=7)
        report("ash", last_change=0)
        note_goodbye("ash", kind)
        assert accepting() == {"ash", "birch"}
        forget()
        note_goodbye("ash", kind)
        assert accepting() == {"birch"}

    def test_a_goodbye_again_and_again_is_none(self):
        for _ in range(3):
            note_goodbye("ash", "restarting")
            Node.objects.update(kept_until=None)
        note_goodbye("ash", "restarting")
        assert accepting() == {"ash", "birch"}

    def test_the_dead_are_not_kept_by_saying_that_they_restart(self):
        silence("ash", seconds=20)
        note_goodbye("ash", "restarting")
        silence("ash")
        assert list(lose_expired(Node.objects.all()).values()) == ["ash"]


def test_the_same_deaths_without_goodbyes_do():
    names = [f"oak-{number}" for number in range(4)]
    work("ash", *names)
    silence(*names)
    listen()
    assert Hearing.objects.get().braked_since is not None


def test_nobody_left_to_be_heard_is_no_deafness():
    work("ash", "birch")
    for name in ("ash", "birch"):
        note_goodbye(name, "leaving")
    silence("ash", "birch")
    listen()
    assert Hearing.objects.get().hearing_since is None


def test_uncordoning_a_node_takes_back_its_goodbye():
    work("ash")
    note_goodbye("ash", "leaving")
    assert Node.objects.cordon(schedulable=True, actor="olga") == 1
    assert accepting() == {"ash"}
    assert Node.objects.cordon(schedulable=True, actor="olga") == 0
