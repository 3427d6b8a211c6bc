"""Two nodes of one name, at two addresses: shown to operators, and nothing else."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client

from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent
from nodes.models.heartbeats import Report
from tests.map import tell

HERE, THERE = "192.0.2.1", "192.0.2.2"

Reporting = Callable[[str | None, int], bool | None]


def alone(address: str | None, version: int) -> bool:
    return note_heartbeat("ash", last_change=version, client_ip=address)


def together(address: str | None, version: int) -> bool | None:
    (answer,) = tell([Report("ash", version, 0, address)])
    return answer


@pytest.fixture(params=[alone, together])
def report(request: pytest.FixtureRequest, warm: None) -> Reporting:
    """A report of ash, by either statement; it is known, and was here last."""
    alone(HERE, 0)
    Node.objects.update(config_version=7)
    request.param(HERE, 7)
    return request.param


def notes() -> list[str]:
    events = NodeEvent.objects.filter(node_name="ash", kind=NodeEvent.Kind.TWO_ADDRESSES)
    return list(events.values_list("cause", flat=True))


def test_reports_from_two_addresses_in_turn_are_noted_with_both(report: Reporting) -> None:
    report(THERE, 0)
    assert report(HERE, 7)
    assert notes() == [f"{HERE} and {THERE}"]


def test_both_get_the_same_answers(report: Reporting) -> None:
    assert [report(address, 7) for address in (THERE, HERE, THERE, HERE)] == [True] * 4
    assert [report(address, 5) for address in (THERE, HERE)] == [False] * 2


def test_what_goes_on_is_noted_once_in_ten_minutes(report: Reporting) -> None:
    for _ in range(3):
        report(THERE, 7)
        report(HERE, 7)
    assert len(notes()) == 1
    NodeEvent.objects.update(time=F("time") - timedelta(minutes=11))
    report(THERE, -1)
    assert len(notes()) == 2


def test_a_node_that_starts_elsewhere_is_not_noted(report: Reporting) -> None:
    report(THERE, 0)
    report(THERE, 7)
    report(THERE, -1)
    assert notes() == []


def test_a_node_that_starts_where_it_was_before_is_not_noted(report: Reporting) -> None:
    for address in (THERE, HERE, THERE):
        report(address, 0)
        report(address, 7)
    assert notes() == []


def test_a_report_that_names_no_address_says_nothing_about_it(report: Reporting) -> None:
    for address in (THERE, None, THERE, None):
        report(address, 7)
    assert notes() == []
    assert Heartbeat.objects.get().client_ip == THERE


def test_a_third_address_is_no_return(report: Reporting) -> None:
    report(THERE, 7)
    report("2001:db8::3", 7)
    assert notes() == []


def test_a_steady_address_costs_one_statement_even_after_another(
    report: Reporting, django_assert_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    report(THERE, 0)
    with django_assert_num_queries(1):
        report(THERE, 7)


def test_operators_see_it_on_the_node_s_page(report: Reporting, admin_client: Client) -> None:
    report(THERE, 7)
    report(HERE, 7)
    page = admin_client.get(f"/admin/nodes/node/{Node.objects.get().pk}/change/")
    assert f"{HERE} and {THERE}" in page.content.decode()
