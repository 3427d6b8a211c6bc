"""A heartbeat: who is registered by it, what it answers, what it writes."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now

from nodes.hearing import lose_expired
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent

pytestmark = pytest.mark.django_db


def kinds(name: str) -> list[str]:
    return list(NodeEvent.objects.filter(node_name=name).order_by("id").values_list("kind", flat=True))


def test_an_unknown_node_is_registered_and_up_to_date_with_version_zero(warm):
    assert note_heartbeat("ash", last_change=0)
    assert Node.objects.get().config_version == 0
    assert kinds("ash") == ["registered"]


@pytest.mark.parametrize("last_change", [10, 1795396531689733380, -50, 2**63 - 1])
def test_any_version_but_the_node_s_own_is_out_of_date(warm, last_change):
    note_heartbeat("ash", last_change=0)
    assert not note_heartbeat("ash", last_change=last_change)


def test_the_node_s_own_version_is_up_to_date(warm):
    note_heartbeat("ash", last_change=0)
    Node.objects.update(config_version=77)
    assert note_heartbeat("ash", last_change=77)
    assert not note_heartbeat("ash", last_change=78)


def test_during_the_warm_up_every_version_is_up_to_date(db):
    assert note_heartbeat("ash", last_change=10)
    assert note_heartbeat("ash", last_change=11)


def test_an_extra_heartbeat_is_up_to_date_and_acknowledges_nothing(warm):
    note_heartbeat("ash", last_change=0)
    Node.objects.update(config_version=77)
    note_heartbeat("ash", last_change=77)
    assert note_heartbeat("ash", last_change=-1)
    assert Heartbeat.objects.get().acknowledged == 77


def test_an_extra_heartbeat_may_come_from_an_unknown_node(warm):
    assert note_heartbeat("ash", last_change=-1)
    assert Node.objects.known().count() == 1


def test_every_heartbeat_renews_the_time(warm):
    note_heartbeat("ash", last_change=0)
    Heartbeat.objects.update(seen_at=Now() - timedelta(seconds=20))
    note_heartbeat("ash", last_change=5)
    assert not Node.objects.silent().exists()


def test_a_new_address_replaces_the_old_and_an_empty_one_keeps_it(warm):
    addresses = []
    for address in ("10.0.0.1", None, "", "10.0.0.2"):
        note_heartbeat("ash", last_change=0, client_ip=address)
        addresses.append(Heartbeat.objects.get().client_ip)
    assert addresses == ["10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"]


def test_the_node_type_is_overwritten_each_time(warm):
    note_heartbeat("ash", last_change=0, node_type=1)
    note_heartbeat("ash", last_change=0)
    assert Heartbeat.objects.get().node_type == 0


def test_zero_after_a_version_is_a_restart_and_noted_once(warm):
    note_heartbeat("ash", last_change=0)
    note_heartbeat("ash", last_change=77)
    for _ in range(3):
        note_heartbeat("ash", last_change=0)
    assert kinds("ash") == ["registered", "restarted"]


def test_a_lost_node_that_reports_is_alive_again_and_out_of_date(warm):
    note_heartbeat("ash", last_change=0)
    note_heartbeat("birch", last_change=0)
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - timedelta(minutes=5))
    lose_expired(Node.objects.all())
    assert Node.objects.get(name="ash").lost_at
    assert not note_heartbeat("ash", last_change=0)
    assert Node.objects.get(name="ash").lost_at is None
    assert kinds("ash") == ["registered", "expired", "back"]


def test_an_extra_heartbeat_revives_a_lost_node(warm):
    note_heartbeat("ash", last_change=0)
    note_heartbeat("birch", last_change=0)
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - timedelta(minutes=5))
    lose_expired(Node.objects.all())
    assert note_heartbeat("ash", last_change=-1)
    assert Node.objects.alive().filter(name="ash").exists()


def test_a_heartbeat_costs_one_statement(warm, django_assert_num_queries):
    note_heartbeat("ash", last_change=0)
    with django_assert_num_queries(1):
        note_heartbeat("ash", last_change=0)


FUTURE = 2**62


def next_versions(number: int) -> list[int]:
    """What the only node's next versions are, which is then as it was."""
    with transaction.atomic():
        found = []
        for _ in range(number):
            Node.objects.bump_versions(list(Node.objects.values_list("pk", flat=True)))
            found.append(Node.objects.get().config_version)
        transaction.set_rollback(True)
    return found


def test_a_version_is_never_used_twice_even_when_the_clock_goes_back(warm):
    note_heartbeat("ash", last_change=0)
    Node.objects.update(config_version=FUTURE)
    first, second = next_versions(2)
    assert FUTURE < first < second <= FUTURE + 2 * 10**9


def test_what_happens_after_a_restore_never_gets_the_versions_of_what_happened_before(warm):
    """A node agent with such a version would keep its list, although it is another one now."""
    note_heartbeat("ash", last_change=0)
    Node.objects.update(config_version=FUTURE)
    before, after = next_versions(20), next_versions(20)
    assert not set(before) & set(after)


def test_versions_that_follow_each_other_quickly_are_not_ahead_of_the_clock(warm):
    note_heartbeat("ash", last_change=0)
    versions = next_versions(20)
    assert versions == sorted(set(versions))
    now = Node.objects.annotate(now=Now()).values_list("now", flat=True).get()
    assert versions[-1] < (now.timestamp() + 1) * 10**9


def test_a_fresh_version_is_the_database_s_time_in_nanoseconds(warm):
    note_heartbeat("ash", last_change=0)
    Node.objects.bump_versions(list(Node.objects.values_list("pk", flat=True)))
    node = Node.objects.annotate(now=Now()).get()
    assert abs(node.config_version / 1e9 - node.now.timestamp()) < 60


def test_hearing_is_one_row(db):
    with pytest.raises(Exception, match="hearing_is_one_row"):
        Hearing.objects.create(pk=2)
