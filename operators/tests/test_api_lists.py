"""What the lists and pages of the operators' API tell."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.utils.dateparse import parse_datetime

from checks import dispatcher
from checks.models import Config, Move
from checks.sources import sets
from checks.tests.cast import report, sent, silence
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeType
from nodes.models.events import MOST_CHARACTERS
from operators.pages import now
from operators.pages.shared import Shared
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(warm: None) -> Caller:
    """Someone who sees this: shop and mail run on ash, db on birch, pod is ash's endpoint check, and lone dangles."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail", name="tcp_check", instances=("host: mail\nport: 25\n",))])
    dispatcher.schedule([sent("pod", source="kubernetes", node_name="ash")])
    Node.objects.cordon()
    dispatcher.schedule([sent("lone", source="admin")])
    report("birch")
    dispatcher.schedule([sent("db", name="postgres", instances=("host: db\npassword: hunter22\n",))])
    return having(Role.VIEWER)


def keys(rows: list[Any]) -> set[str]:
    return {origin["key"] for row in rows for origin in row["origins"]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"shop", "mail", "pod", "lone", "db"}),
        ("state=assigned", {"shop", "mail", "db"}),
        ("state=dangling", {"lone"}),
        ("state=endpoint", {"pod"}),
        ("check=tcp_check", {"mail"}),
        ("source=admin", {"lone"}),
        ("source=file&check=http_check", {"shop"}),
        ("key=mail", {"mail"}),
        ("node=ash", {"shop", "mail", "pod"}),
        ("node=cedar", set()),
        ("text=HOST%3A+mail", {"mail"}),
        ("text=hunter22", set()),
    ],
)
def test_configs_are_filtered(viewer: Caller, query: str, found: set[str]) -> None:
    assert keys(viewer.rows(f"configs?{query}")) == found


def test_configs_are_found_by_check_id_and_digest(viewer: Caller) -> None:
    mail = Config.objects.get(origins__key="mail")
    author, check = having(Role.AUTHOR), mail.instances.get()
    for caller, found in ((author, {"mail"}), (viewer, set())):
        assert keys(caller.rows(f"configs?check_id={check.check_id}")) == found
        assert keys(caller.rows(f"configs?digest={mail.digest}")) == found
        for word in (check.shown_id(), check.short_id):
            assert keys(caller.rows(f"configs?check_id={word}")) == {"mail"}
        for word in (mail.short_id, check.short_id, check.shown_id()):
            assert keys(caller.rows(f"configs?short_id={word}")) == {"mail"}


def test_a_config_says_who_runs_it_since_when_and_why(viewer: Caller) -> None:
    (row,) = viewer.rows("configs?key=db")
    config = Config.objects.get(pk=row["id"])
    assert (row["state"], row["node"], row["reason"], row["check"]) == ("assigned", "birch", "scheduled", "postgres")
    assert parse_datetime(row["since"]) == config.assignment.since
    assert row["origins"] == [{"source": "file", "key": "db"}]
    assert row["check_ids"] == [config.instances.get().shown_id()]
    assert (row["short_id"], row["digest"]) == (config.short_id, None)
    (row,) = having(Role.AUTHOR).rows("configs?key=db")
    assert (row["digest"], row["check_ids"]) == (config.digest, [config.instances.get().check_id])
    assert "host: db" in viewer.get(f"configs/{row['id']}")["yaml"]


def test_a_config_without_an_owner_says_so(viewer: Caller) -> None:
    (lone,), (pod,) = viewer.rows("configs?key=lone"), viewer.rows("configs?key=pod")
    assert (lone["state"], lone["node"], lone["since"], lone["reason"]) == ("dangling", None, None, None)
    assert lone["dangling_since"]
    assert (pod["state"], pod["node"], pod["dangling_since"]) == ("endpoint", "ash", None)


def test_nodes_tell_their_state_and_are_filtered(viewer: Caller) -> None:
    report("cedar", "dogwood")
    Heartbeat.objects.filter(node__name="birch").update(node_type=NodeType.RUNNER, client_ip="10.0.0.7")
    silence("cedar")
    Node.objects.filter(name="cedar").update(schedulable=False)
    Heartbeat.objects.filter(node__name="dogwood").delete()
    rows = {row["name"]: row for row in viewer.rows("nodes")}
    assert {name: row["state"] for name, row in rows.items()} == {
        "ash": "alive", "birch": "alive", "cedar": "silent", "dogwood": "lost"
    }  # fmt: skip
    assert {name: row["configs"] for name, row in rows.items()} == {"ash": 2, "birch": 1, "cedar": 0, "dogwood": 0}
    assert (rows["birch"]["type"], rows["birch"]["address"], rows["birch"]["acknowledged"]) == (
        "runner",
        "10.0.0.7",
        False,
    )
    assert {name for name, row in rows.items() if row["schedulable"]} == {"birch"}
    assert (rows["dogwood"]["type"], rows["dogwood"]["last_heard"]) == (None, None)
    for query, found in {
        "state=silent": {"cedar"},
        "schedulable=false": {"ash", "cedar", "dogwood"},
        "schedulable=true": {"birch"},
        "type=runner": {"birch"},
        "prefix=b": {"birch"},
    }.items():
        assert {row["name"] for row in viewer.rows(f"nodes?{query}")} == found
    assert viewer.get("nodes/birch") == rows["birch"] | {"drain": None, "certificate": None}


def test_moves_are_told_from_the_last_on_and_are_filtered(viewer: Caller) -> None:
    db = Config.objects.get(origins__key="db")
    moves = viewer.rows("moves")
    assert [move["check"] for move in moves] == ["postgres", "tcp_check", "http_check"]
    assert moves[0] | {"id": 0, "time": "", "term": 0, "why": {}} == {
        "id": 0, "time": "", "term": 0, "config_id": db.pk, "title": "postgres db", "check": "postgres", "digest": None,
        "from_node": "",
        "short_id": db.short_id, "to_node": "birch", "reason": "scheduled", "actor": "", "why": {},
        "promise": "", "handed_at": None,
    }  # fmt: skip
    first = Move.objects.earliest("pk")
    Move.objects.filter(pk=first.pk).update(time="2020-01-01T00:00Z")
    for query, number in {
        f"config={db.pk}": 1,
        "node=ash": 2,
        "reason=expired": 0,
        "check=tcp_check": 1,
        f"digest={db.digest}": 0,
        f"short_id={db.short_id}": 1,
        "until=2020-01-02T00:00Z": 1,
        "since=2020-01-02T00:00Z": 2,
        "since=2020-01-01T00:00Z&until=2020-01-01T00:00Z": 0,
        "actor=olga": 0,
    }.items():
        assert len(viewer.rows(f"moves?{query}")) == number, query


def test_events_are_told_from_the_last_on_and_are_filtered(viewer: Caller) -> None:
    told = [(event["node"], event["kind"]) for event in viewer.rows("events")]
    assert told == [("birch", "registered"), ("ash", "cordoned"), ("ash", "registered")]
    assert len(viewer.rows("events?node=ash")) == 2
    assert len(viewer.rows("events?kind=cordoned&since=2020-01-02")) == 1


@pytest.mark.parametrize(
    "query",
    [
        "configs?state=running", "nodes?state=tired", "nodes?type=toaster", "moves?config=1e9", "moves?since=yesterday",
        "moves?reason=whim", "events?kind=party", "configs?text=%00",
        "configs?chekc=http_check", "sources?name=x",
    ],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_told_at_its_field(viewer: Caller, query: str) -> None:
    answer = viewer.call("GET", query)
    assert answer.status_code == 400
    assert list(answer.json()) == [query.partition("?")[2].partition("=")[0]]


@pytest.mark.parametrize("path", ["configs/0", "configs/999999999999999999", "nodes/oak", "nodes/a%00", "sources/none"])
def test_what_is_not_there_is_404(viewer: Caller, path: str) -> None:
    assert viewer.call("GET", path).status_code == 404


@pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD0lMDA=", "cj0xJnA9MWU5OTk="])
@pytest.mark.parametrize("path", ["configs", "nodes", "moves"])
def test_a_made_up_cursor_is_no_fault_of_ours(viewer: Caller, path: str, cursor: str) -> None:
    assert viewer.call("GET", f"{path}?cursor={cursor}").status_code in (200, 404)


@pytest.mark.parametrize("path", ["configs", "nodes", "moves", "events", "sources"])
def test_pages_tell_every_row_once(viewer: Caller, path: str) -> None:
    report(*(f"n{number}" for number in range(7)))
    told, url = [], f"/api/operator/v1/{path}?limit=2"
    while url:
        page = viewer.get(url.removeprefix("http://testserver"))
        assert len(page["results"]) <= 2
        told += [row.get("id") or row.get("name") for row in page["results"]]
        url = page["next"]
    everything = [row.get("id") or row.get("name") for row in viewer.rows(f"{path}?limit=1000")]
    assert told == everything
    assert len(told) == len(set(told))


@pytest.mark.parametrize("path", ["configs", "nodes", "pins", "moves", "events", "sources"])
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    viewer: Caller,
    path: str,
    django_assert_num_queries: Callable[..., Any],
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    dispatcher.pin([Config.objects.earliest("pk").pk], "birch")
    with django_assert_max_num_queries(10) as few:
        viewer.get(f"{path}?limit=1000")
    report(*(f"n{number}" for number in range(150)))
    dispatcher.schedule([sent(f"many{number}") for number in range(150)])
    dispatcher.pin(Config.objects.filter(node_name="").values_list("pk", flat=True), "birch")
    with django_assert_num_queries(len(few)):
        viewer.get(f"{path}?limit=1000")


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_slash_at_the_end_does_not_count(viewer: Caller, slash: str) -> None:
    assert viewer.call("GET", f"nodes/ash{slash}").status_code == 200
    assert having(Role.OPERATOR).call("POST", f"nodes/ash/cordon{slash}").status_code == 200


def test_a_database_that_is_away_is_told_as_that(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("password=hunter22 is wrong")

    monkeypatch.setattr(sets, "revision_of", away)
    sets.replace("api:shop", [], actor="olga")
    answer = viewer.call("GET", "sources/shop")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The database is away, or busy with another change. Try again."}


def test_events_are_told_in_bounded_pages_whatever_nodes_declare(viewer: Caller) -> None:
    """A page was 250 MB that were scrubbed, when each event held what its node had declared."""
    declared = canonical(include=[f"password{number}: token=abc" for number in range(2000)])
    for number in range(100):
        note_heartbeat(f"node-{number}", last_change=7, declared=declared)
    rows = viewer.rows("events?limit=1000&kind=declared")
    assert len(rows) == 100
    assert max(len(row["cause"]) for row in rows) <= MOST_CHARACTERS


@pytest.mark.parametrize("limit", ["many", "0", "-1", "1.5", "", "1e3", "\u0663", "%31%00"])
def test_a_limit_that_is_no_number_of_rows_is_refused(viewer: Caller, limit: str) -> None:
    answer = viewer.call("GET", f"configs?limit={limit}")
    assert (answer.status_code, answer.json()) == (400, {"limit": ["A whole number, 1 to 1000."]})


def test_more_rows_than_a_page_has_come_in_pages(viewer: Caller) -> None:
    assert viewer.rows("configs?limit=99999999999999999999") == viewer.rows("configs?limit=1000")


def test_the_status_is_the_first_page_s(viewer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(now, "_shared", Shared(now.snapshot, 0))
    told = viewer.get("status")
    assert told["state"] == "Not healthy"
    assert told["sentence"].startswith("Not healthy. 3 configs on 2 nodes, ")
    assert "dangling" in {need["kind"] for need in told["needs"]}
