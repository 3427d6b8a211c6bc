"""Nodes that say goodbye: what we believe of them from then on, and what ends it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from clusteragent.lib import conf
from nodes.heartbeats import Report
from nodes.models import Hearing, Heartbeat, Node, NodeEvent
from nodes.querysets import FAREWELL_TIME, RESTART_TIME, UnknownNode

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

TIMEOUT = conf.NODE_EXPIRATION_TIMEOUT
AGENT = {"HTTP_AUTHORIZATION": f"Bearer {conf.AUTH_TOKEN}"}
LEAVING, RESTARTING = '{"kind": "leaving"}', '{"kind": "restarting"}'


def report(*names: str, last_change: int = 0) -> None:
    for name in names:
        Node.objects.heartbeat(name, last_change=last_change)


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
    Node.objects.goodbye("ash", kind)
    assert accepting() == {"birch"}


def test_an_unknown_and_a_lost_node_can_not_leave():
    work("ash")
    Heartbeat.objects.all().delete()
    for name in ("ash", "birch"):
        with pytest.raises(UnknownNode, match=name):
            Node.objects.goodbye(name, "leaving")


def test_who_leaves_comes_back_with_a_fresh_start_and_not_with_a_report():
    work("ash")
    Node.objects.goodbye("ash", "leaving")
    for version in (7, -1, 8):
        report("ash", last_change=version)
        assert accepting() == set()
    report("ash", last_change=0)
    assert accepting() == {"ash"}
    assert events("ash")[-1] == ("restarted", NodeEvent.ANNOUNCED)


def test_who_never_had_a_config_reports_nothing_else_than_a_fresh_start_so_it_leaves_for_a_while():
    report("ash")
    Node.objects.goodbye("ash", "leaving")
    report("ash")
    assert accepting() == set()
    assert events("ash")[-1] == ("leaving", "")
    NodeEvent.objects.update(time=Now() - FAREWELL_TIME - timedelta(seconds=1))
    report("ash")
    assert accepting() == {"ash"}


def test_heartbeats_that_are_taken_together_end_a_goodbye_as_well():
    work("ash", "birch")
    Node.objects.goodbye("ash", "leaving")
    assert Node.objects.heartbeats([Report("ash", 0), Report("birch", 7)]) == [False, True]
    assert accepting() == {"ash", "birch"}


def test_a_second_goodbye_says_nothing_new():
    work("ash")
    for kind in ("restarting", "restarting", "leaving", "leaving", "restarting"):
        Node.objects.goodbye("ash", kind)
    assert [kind for kind, _ in events("ash")][-2:] == ["restarting", "leaving"]
    ash = Node.objects.get()
    assert (ash.leaving, ash.kept_until) == (True, None)


def test_who_restarts_keeps_its_work_for_a_minute_however_silent():
    work("ash", "birch")
    Node.objects.goodbye("ash", "restarting")
    silence("ash")
    assert Node.objects.expire() == {}
    Node.objects.filter(name="ash").update(kept_until=Now())
    assert list(Node.objects.expire().values()) == ["ash"]
    assert events("ash")[-1] == ("expired", "")


def test_the_minute_is_counted_from_the_first_word():
    work("ash")
    Node.objects.goodbye("ash", "restarting")
    Node.objects.update(kept_until=Now() + timedelta(seconds=1))
    Node.objects.goodbye("ash", "restarting")
    assert Node.objects.filter(kept_until__lt=Now() + RESTART_TIME / 2).exists()


def test_a_forced_expiry_does_not_wait_for_who_restarts():
    work("ash")
    Node.objects.goodbye("ash", "restarting")
    silence("ash")
    assert list(Node.objects.expire(force=True).values()) == ["ash"]


def test_who_started_anew_in_time_gets_work_at_once():
    work("ash")
    Node.objects.goodbye("ash", "restarting")
    report("ash", last_change=0)
    assert accepting() == {"ash"}
    assert events("ash")[-1] == ("restarted", NodeEvent.ANNOUNCED)


def test_who_left_and_dies_is_no_alarm():
    work("ash", "birch")
    Node.objects.goodbye("ash", "leaving")
    silence("ash")
    assert NodeEvent.objects.note_silent() == []
    assert list(Node.objects.expire().values()) == ["ash"]
    assert events("ash")[-1] == ("expired", NodeEvent.ANNOUNCED)
    report("ash")
    assert accepting() == {"ash", "birch"}


def test_goodbyes_do_not_pull_the_brake():
    names = [f"oak-{number}" for number in range(4)]
    work("ash", *names)
    for name in names:
        Node.objects.goodbye(name, "leaving")
    silence(*names)
    Hearing.objects.listen()
    assert Hearing.objects.get().braked_since is None
    assert set(Node.objects.expire().values()) == set(names)


def test_the_same_deaths_without_goodbyes_do():
    names = [f"oak-{number}" for number in range(4)]
    work("ash", *names)
    silence(*names)
    Hearing.objects.listen()
    assert Hearing.objects.get().braked_since is not None


def test_nobody_left_to_be_heard_is_no_deafness():
    work("ash", "birch")
    for name in ("ash", "birch"):
        Node.objects.goodbye(name, "leaving")
    silence("ash", "birch")
    Hearing.objects.listen()
    assert Hearing.objects.get().hearing_since is None


def test_uncordoning_a_node_takes_back_its_goodbye():
    work("ash")
    Node.objects.goodbye("ash", "leaving")
    assert Node.objects.cordon(schedulable=True, actor="olga") == 1
    assert accepting() == {"ash"}
    assert Node.objects.cordon(schedulable=True, actor="olga") == 0
