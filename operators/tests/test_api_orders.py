"""Pins, pauses, isolations and rules: ordered, listed and taken back by operators' tools."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import ClusterStore, Config, Move, Plan, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.tests.cast import dangling, owners, report, sent
from clusteragent.lib import clock
from nodes.models import Node
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db

FAR = "2100-01-01T00:00:00Z"


@pytest.fixture
def operator(warm: None) -> Caller:
    """Someone who steers this: shop, mail and db run on ash, birch has nothing."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("db", name="postgres")])
    report("birch")
    return having(Role.OPERATOR)


def ids(*keys: str) -> list[int]:
    return [Config.objects.get(origins__key=key).pk for key in keys]


def made(answer: Any) -> list[Any]:
    assert answer.status_code == 201, answer.content
    rows: list[Any] = answer.json()
    return rows


def state(operator: Caller, key: str) -> str:
    return str(operator.get(f"configs/{ids(key)[0]}")["state"])


def test_a_pin_moves_configs_says_why_and_is_taken_back(operator: Caller) -> None:
    wish = {"configs": ids("shop", "mail"), "aim": "birch", "note": "near its database", "until": FAR}
    shop, mail = made(operator.call("POST", "pins", wish))
    assert owners() == {"shop": "birch", "mail": "birch", "db": "ash"}
    assert shop | {"time": "", "id": 0} == {
        "id": 0, "config": ids("shop")[0], "check": "http_check", "origin": "file:shop", "author": "operator",
        "note": "near its database", "time": "", "from_source": False, "kind": "node", "aim": "birch", "waits": False,
        "until": FAR,
    }  # fmt: skip
    assert operator.get(f"configs/{shop['config']}")["pin"] == "the node birch"
    assert [row["id"] for row in operator.rows(f"pins?config={mail['config']}")] == [mail["id"]]
    assert operator.call("DELETE", f"pins/{shop['id']}").status_code == 204
    assert list(Pin.objects.values_list("config_id", flat=True)) == [mail["config"]]
    assert owners()["shop"] == "birch"


def test_a_pin_by_which_configs_stop_must_be_meant(operator: Caller) -> None:
    wish = {"configs": ids("shop"), "aim": "nobody", "waits": True}
    told = operator.call("POST", "pins?dry_run=1", wish).json()
    assert told["needs"] == ["accept_dangling"]
    assert told["sentences"][0] == "1 config would run nowhere."
    assert "There is no such node now" in told["sentences"][1]
    answer = operator.call("POST", "pins", wish)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "1 config would run nowhere. Send it with ?accept_dangling=1 if that is meant."
    assert "shop" in owners()
    refused = Act.objects.get(verb=Act.Verb.REFUSE)
    assert (refused.object.split()[0], refused.about) == ("pin", {"configs": ids("shop")})
    # Nor by its plan.
    plan = plans.store(deciding.pin(ids("shop"), "nobody", waits=True), author="eve")
    assert operator.call("POST", f"plans/{plan.pk}/apply").status_code == 409
    assert "shop" in owners()
    made(operator.call("POST", "pins?accept_dangling=1", wish))
    assert "shop" not in owners()
    # What runs nowhere already needs no such word.
    made(operator.call("POST", "pins", wish))


def test_a_pin_may_aim_at_names_or_labels(operator: Caller) -> None:
    made(operator.call("POST", "pins", {"configs": ids("shop"), "kind": "pattern", "aim": "bir*"}))
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    made(operator.call("POST", "pins", {"configs": ids("mail"), "kind": "label", "aim": "zone=b"}))
    assert owners() == {"shop": "birch", "mail": "birch", "db": "ash"}


def test_a_pause_takes_configs_away_until_it_is_taken_back(operator: Caller) -> None:
    (row,) = made(operator.call("POST", "pauses", {"configs": ids("shop"), "note": "maintenance"}))
    assert "shop" not in owners()
    assert dangling() == set()
    assert state(operator, "shop") == "paused"
    assert [row["id"] for row in operator.rows("configs?state=paused")] == ids("shop")
    assert operator.call("DELETE", f"pauses/{row['id']}").status_code == 204
    assert state(operator, "shop") == "assigned"
    assert set(Move.objects.filter(reason="resumed").values_list("actor", flat=True)) == {"operator"}


def test_an_isolated_config_is_alone_until_it_is_taken_back(operator: Caller) -> None:
    (row,) = made(operator.call("POST", "isolations", {"configs": ids("shop")}))
    assert owners() == {"shop": "ash", "mail": "birch", "db": "birch"}
    assert row["reason"] == "isolated"
    assert operator.get(f"configs/{row['config']}")["isolated"] is True
    assert operator.call("DELETE", f"isolations/{row['id']}").status_code == 204
    assert not Isolation.objects.exists()


def test_an_order_replaces_the_one_before(operator: Caller) -> None:
    made(operator.call("POST", "pins", {"configs": ids("shop"), "aim": "birch"}))
    made(operator.call("POST", "pins", {"configs": ids("shop"), "aim": "ash"}))
    assert list(Pin.objects.values_list("aim", flat=True)) == ["ash"]


def test_an_order_that_waits_for_its_config_is_taken_back_too(operator: Caller) -> None:
    (row,) = made(operator.call("POST", "pauses", {"configs": ids("shop")}))
    dispatcher.unschedule([("file", "shop")])
    (waiting,) = operator.rows("pauses?source=file")
    assert (waiting["config"], waiting["check"], waiting["origin"]) == (None, None, "file:shop")
    assert operator.call("DELETE", f"pauses/{row['id']}").status_code == 204
    assert not Pause.objects.exists()


@pytest.mark.parametrize(
    ("kind", "wish", "field", "error"),
    [
        ("pins", {"aim": "birch", "configs": []}, "configs", "at least 1"),
        ("pins", {"aim": "birch", "configs": [0]}, "configs", "greater than or equal to 1"),
        ("pins", {"aim": "birch", "configs": [99_999_999]}, "configs", "does not exist any more"),
        ("pins", {"aim": ""}, "aim", "may not be blank"),
        ("pins", {"aim": "zone", "kind": "label"}, "aim", "written as zone=a"),
        ("pins", {"aim": "birch", "kind": "wish"}, "kind", "not a valid choice"),
        (
            "pauses",
            {"until": "soon"},
            "until",
            "That is neither a span nor a time: 90s, 30m, 2h, 3d, 1w, or a time in UTC",
        ),
        ("pauses", {"until": "2020-01-01T00:00:00Z"}, "until", "That is over already."),
        ("isolations", {"configs": [99_999_999]}, "configs", "does not exist any more"),
    ],
)
def test_what_can_not_be_ordered_is_told_at_its_field(
    operator: Caller, kind: str, wish: dict[str, Any], field: str, error: str
) -> None:
    before = owners()
    answer = operator.call("POST", kind, {"configs": ids("shop")} | wish)
    assert answer.status_code == 400, answer.content
    assert error in str(answer.json()[field])
    assert owners() == before


def test_all_are_ordered_or_none(operator: Caller) -> None:
    for kind, wish in (("pins", {"aim": "birch"}), ("pauses", {}), ("isolations", {})):
        answer = operator.call("POST", kind, {"configs": [*ids("shop", "mail"), 99_999_999]} | wish)
        assert answer.status_code == 400
    assert [model.objects.count() for model in (Pin, Pause, Isolation)] == [0, 0, 0]
    assert set(owners().values()) == {"ash"}


def test_a_refusal_names_the_rule(operator: Caller) -> None:
    rule = {"name": "databases stay in a", "check_pattern": "postgres", "required": {"zone": "a"}, "note": "latency"}
    answer = operator.call("POST", "rules?accept_dangling=1", rule)
    assert answer.status_code == 201
    assert answer.json()["author"] == "operator"
    refused = operator.call("POST", f"configs/{ids('db')[0]}/reassign", {"node": "birch"})
    assert refused.status_code == 400
    assert "rule databases stay in a: it requires zone=a" in refused.json()["node"][0]
    changed = operator.call("PUT", f"rules/{answer.json()['id']}", rule | {"check_pattern": "mysql"})
    assert changed.status_code == 200
    assert operator.call("POST", f"configs/{ids('db')[0]}/reassign", {"node": "birch"}).status_code == 200
    assert operator.call("DELETE", f"rules/{answer.json()['id']}").status_code == 204
    assert not Rule.objects.exists()


@pytest.mark.parametrize(("verb", "path"), [("POST", "rules"), ("PUT", "rules/{}"), ("DELETE", "rules/{}")])
def test_a_changed_rule_wakes_the_leader(
    operator: Caller, verb: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule.objects.create(name="old")
    calls: list[None] = []
    monkeypatch.setattr(ClusterStore.objects, "wake", lambda: calls.append(None))
    body = None if verb == "DELETE" else {"name": "fast"}
    assert operator.call(verb, path.format(rule.pk), body).status_code in (200, 201, 204)
    assert calls == [None]


def test_rules_of_nodes_hold_at_once(operator: Caller) -> None:
    rule = {"pattern": "b*", "labels": {"zone": "b"}, "weight": 0.5, "max_configs": 7}
    answer = operator.call("POST", "node-rules", rule)
    assert answer.status_code == 201, answer.content
    birch = operator.get("nodes/birch")
    assert (birch["labels"], birch["weight"], birch["max_configs"]) == ({"zone": "b"}, 0.5, 7)
    operator.call("PUT", f"node-rules/{answer.json()['id']}", {"pattern": "a*", "labels": {"zone": "a"}})
    assert (operator.get("nodes/ash")["labels"], operator.get("nodes/birch")["labels"]) == ({"zone": "a"}, {})
    operator.call("DELETE", f"node-rules/{answer.json()['id']}")
    assert operator.get("nodes/ash")["labels"] == {}


@pytest.mark.parametrize(
    ("path", "rule", "field"),
    [
        ("rules", {"name": ""}, "name"),
        ("rules", {"name": "r", "required": {"a": {"b": "c"}}}, "required"),
        ("rules", {"name": "r", "forbidden": {"a\0": "c"}}, "forbidden"),
        ("rules", {"name": "r", "max_per_node": 0}, "max_per_node"),
        ("node-rules", {"network": "10.0.0.0/99"}, "network"),
        ("node-rules", {"type": "toaster"}, "type"),
        ("node-rules", {"weight": "nan"}, "weight"),
        ("node-rules", {"weight": 0}, "weight"),
        ("node-rules", {"max_configs": -1}, "max_configs"),
    ],
)
def test_what_is_no_rule_is_told_at_its_field(operator: Caller, path: str, rule: dict[str, Any], field: str) -> None:
    answer = operator.call("POST", path, rule)
    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == [field]


def test_a_plan_is_worked_out_looked_at_and_applied_once(operator: Caller) -> None:
    for number in range(9):
        dispatcher.schedule([sent(f"more{number}")])
    dispatcher.reassign(Config.objects.values_list("pk", flat=True), "ash", actor="olga")
    plan = operator.call("POST", "plans", {"force": True})
    assert plan.status_code == 201
    told = plan.json()
    assert (told["author"], told["applied_at"], len(told["moves"])) == ("operator", None, 6)
    assert told["spread"]["peak"][1] < told["spread"]["peak"][0]
    assert set(owners().values()) == {"ash"}
    assert operator.rows("plans")[0]["id"] == told["id"]
    done = operator.call("POST", f"plans/{told['id']}/apply")
    assert done.status_code == 200
    assert done.json()["moved"] == 6
    assert sorted(owners().values()).count("birch") == 6
    again = operator.call("POST", f"plans/{told['id']}/apply")
    assert again.status_code == 409
    assert again.json() == {"moves": ["the plan was applied already"]}


def test_a_plan_that_no_longer_holds_moves_nothing(operator: Caller) -> None:
    dispatcher.reassign(Config.objects.values_list("pk", flat=True), "ash", actor="olga")
    told = operator.call("POST", "plans", {"force": True}).json()
    Node.objects.filter(name="birch").cordon()
    refused = operator.call("POST", f"plans/{told['id']}/apply")
    assert refused.status_code == 409
    assert refused.json() == {"moves": ["node birch is cordoned"]}
    assert set(owners().values()) == {"ash"}


def test_balancing_is_frozen_until_it_is_taken_back(operator: Caller) -> None:
    answer = operator.call("POST", "freezes", {"note": "release", "until": FAR})
    assert answer.status_code == 201, answer.content
    row = answer.json()
    assert row | {"id": 0, "time": ""} == {
        "id": 0, "author": "operator", "note": "release", "time": "", "until": FAR, "ended_at": None, "ended_by": "",
    }  # fmt: skip
    assert freezes.why_off() == "frozen by operator until 2100-01-01 00:00 UTC"
    assert [one["id"] for one in operator.rows("freezes?in_force=true")] == [row["id"]]
    assert operator.call("DELETE", f"freezes/{row['id']}").status_code == 204
    assert freezes.why_off() == ""
    assert operator.rows("freezes?in_force=true") == []
    assert operator.get(f"freezes/{row['id']}")["ended_by"] == "operator"
    assert operator.call("DELETE", f"freezes/{row['id']}").status_code == 409


def test_a_freeze_that_is_over_at_once_is_refused_at_its_field(operator: Caller) -> None:
    answer = operator.call("POST", "freezes", {"until": "2020-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()) == (400, {"until": ["That is over already."]})


@pytest.mark.parametrize(("span", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200)])
def test_an_end_may_be_a_span(operator: Caller, span: str, seconds: int) -> None:
    for kind, wish in (("freezes", {}), ("pauses", {"configs": ids("shop")})):
        earliest = clock.now() + timedelta(seconds=seconds)
        answer = operator.call("POST", kind, {"until": span} | wish)
        assert answer.status_code == 201, answer.content
        until = datetime.fromisoformat(operator.rows(kind)[0]["until"])
        assert earliest <= until <= clock.now() + timedelta(seconds=seconds)


@pytest.mark.parametrize("hours", [-2, 2])
def test_an_end_is_judged_by_the_databases_clock(operator: Caller, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=hours))
    for minutes, status in ((-5, 400), (5, 201)):
        until = (now + timedelta(minutes=minutes)).isoformat()
        for kind, wish in (("freezes", {}), ("pauses", {"configs": ids("shop")})):
            assert operator.call("POST", kind, {"until": until} | wish).status_code == status


def test_only_operators_freeze_and_all_roles_see_it(operator: Caller) -> None:
    viewer = having(Role.VIEWER)
    assert viewer.call("POST", "freezes", {}).status_code == 403
    freeze = operator.call("POST", "freezes", {}).json()
    assert [row["id"] for row in viewer.rows("freezes")] == [freeze["id"]]
    assert viewer.call("DELETE", f"freezes/{freeze['id']}").status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "unread"),
    [
        ("pins", {"configs": [1], "aim": "birch", "wait": True}, {"wait": ["Unknown name. Did you mean waits?"]}),
        ("pauses", {"configs": [1], "until_": FAR}, {"until_": ["Unknown name. Did you mean until?"]}),
        (
            "rules",
            {"name": "a", "check_patern": "b"},
            {"check_patern": ["Unknown name. Did you mean check_pattern?"]},
        ),
        ("node-rules", {"pattern": "a", "label": {"b": "c"}}, {"label": ["Unknown name. Did you mean labels?"]}),
        ("freezes", {"untill": FAR}, {"untill": ["Unknown name. Did you mean until?"]}),
        ("plans", {"bugdet": 1}, {"bugdet": ["Unknown name. Did you mean budget?"]}),
        ("nodes/ash/cordon?dryrun=1", None, {"dryrun": ["Unknown name. Did you mean dry_run?"]}),
    ],
)
def test_what_nothing_reads_is_refused_and_nothing_is_done(
    operator: Caller, path: str, body: Any, unread: dict[str, list[str]]
) -> None:
    answer = operator.call("POST", path, body)
    assert (answer.status_code, answer.json()) == (400, unread)
    assert Node.objects.get(name="ash").schedulable
    assert not any(model.objects.exists() for model in (Pin, Pause, Rule))


def test_a_rule_that_was_read_may_be_sent_back(operator: Caller) -> None:
    rule = operator.call("POST", "rules?accept_dangling=1", {"name": "zones", "required": {"zone": "a"}}).json()
    answer = operator.call("PUT", f"rules/{rule['id']}?accept_dangling=1", rule | {"max_per_node": 5})
    assert (answer.status_code, answer.json()["max_per_node"]) == (200, 5)


DRY: dict[str, tuple[str, Any, list[tuple[str, str]]]] = {
    "reassign": ("configs/{shop}/reassign", {"node": "birch"}, [("ash", "birch")]),
    "pin": ("pins", {"configs": ["shop", "mail"], "aim": "birch"}, [("ash", "birch")] * 2),
    "pause": ("pauses", {"configs": ["shop"]}, [("ash", "")]),
    "isolate": ("isolations", {"configs": ["shop"]}, [("ash", "birch")] * 2),
    "drain": ("nodes/ash/drain", {}, [("ash", "birch")] * 3),
}


def asked(path: str, body: Any) -> tuple[str, Any]:
    """A call about configs that are named by their keys."""
    named = "configs" in body
    return path.format(shop=ids("shop")[0]), body | {"configs": ids(*body["configs"])} if named else body


@pytest.mark.parametrize("verb", DRY)
def test_a_dry_run_tells_the_plan_and_the_same_call_without_it_does_that(operator: Caller, verb: str) -> None:
    path, body, routes = DRY[verb]
    path, body = asked(path, body)
    before = owners(), Move.objects.count()
    told = operator.call("POST", f"{path}?dry_run=1", body)
    assert told.status_code == 200, told.content
    plan = told.json()
    assert sorted((move["from_node"], move["to_node"]) for move in plan["moves"]) == routes
    assert (plan["id"], plan["applied_at"], plan["author"]) == (None, None, "operator")
    assert (owners(), Move.objects.count()) == before
    assert not any(model.objects.exists() for model in (Pin, Pause, Isolation, Plan))
    assert Node.objects.get(name="ash").schedulable
    assert operator.call("POST", path, body).status_code in (200, 201)
    kept = Plan.objects.get()
    assert (kept.author, kept.outcome) == ("operator", "")
    assert [(move["config"], move["to_node"]) for move in kept.moves] == [
        (move["config"], move["to_node"]) for move in plan["moves"]
    ]


def test_a_dry_run_of_a_freeze_and_of_a_cordon_changes_nothing(operator: Caller) -> None:
    frozen = operator.call("POST", "freezes?dry_run=1", {"note": "release"})
    assert (frozen.status_code, frozen.json()["what"]) == (200, "Freeze balancing")
    assert not Freeze.objects.exists()
    wrong = operator.call("POST", "freezes?dry_run=1", {"until": "2020-01-01T00:00:00Z"})
    assert wrong.status_code == 400
    closed = operator.call("POST", "nodes/ash/cordon?dry_run=1")
    assert (closed.status_code, closed.json()["what"]) == (200, "Cordon ash")
    assert Node.objects.get(name="ash").schedulable
    assert operator.call("POST", "nodes/oak/cordon?dry_run=1").status_code == 404


def test_a_dry_run_of_the_end_of_a_pause_ends_nothing(operator: Caller) -> None:
    (row,) = made(operator.call("POST", "pauses", {"configs": ids("shop")}))
    told = operator.call("DELETE", f"pauses/{row['id']}?dry_run=1")
    assert (told.status_code, [move["from_node"] for move in told.json()["moves"]]) == (200, [""])
    dispatcher.unschedule([("file", "shop")])
    assert operator.call("DELETE", f"pauses/{row['id']}?dry_run=1").json()["moves"] == []
    assert Pause.objects.exists()
    (pin,) = made(operator.call("POST", "pins", {"configs": ids("mail"), "aim": "birch"}))
    told = operator.call("DELETE", f"pins/{pin['id']}?dry_run=1")
    assert (told.status_code, told.json()["what"]) == (200, f"Unpin {Config.objects.get(pk=pin['config'])}")
    assert Pin.objects.exists()


def test_a_dry_run_is_refused_as_the_call_is(operator: Caller) -> None:
    answer = operator.call("POST", f"configs/{ids('shop')[0]}/reassign?dry_run=1", {"node": "oak"})
    assert (answer.status_code, answer.json()) == (400, {"node": ["node oak is unknown"]})


def test_what_changes_again_and_again_is_a_conflict(operator: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*args: Any, **how: Any) -> Any:
        raise dispatcher.StalePlan("http_check k1 was edited")

    monkeypatch.setattr(dispatcher, "commit", stale)
    answer = operator.call("POST", "pauses", {"configs": ids("shop")})
    assert (answer.status_code, answer.json()) == (409, {"configs": ["http_check k1 was edited"]})
    assert not Plan.objects.exists()


@pytest.mark.parametrize(("kind", "model", "field"), [("pins", Pin, "pin"), ("pauses", Pause, "paused")])
def test_what_a_source_orders_is_shown_so_and_not_taken_back(
    operator: Caller, kind: str, model: Any, field: str
) -> None:
    author = "clustercheck shop/shop"
    dispatcher.pin(ids("shop"), "birch", actor=author, origin=("kubernetes", "clustercheck/shop/shop"))
    dispatcher.pause(ids("shop"), actor=author, origin=("kubernetes", "clustercheck/shop/shop"))
    [row] = operator.rows(kind)
    assert (row["author"], row["from_source"], row["origin"]) == (author, True, "kubernetes:clustercheck/shop/shop")
    answer = operator.call("DELETE", f"{kind}/{row['id']}")
    assert (answer.status_code, answer.json()) == (
        400,
        {"config": [f"ordered by {author}: change its spec.{field}"]},
    )
    assert model.objects.count() == 1
