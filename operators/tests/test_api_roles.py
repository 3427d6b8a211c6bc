"""Who may call what: every call of the API against every role, and against those who have no token of it."""

from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now
from django.urls import resolve

from acts.models import Act
from checks import dispatcher
from checks.models import Config, Plan
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.tests.cast import owners, report, sent
from clusteragent.lib import conf
from nodes.models import Node, NodeRule, NodeToken, Runner
from operators.api import urls
from operators.roles import Role
from operators.tests.cast import API, Caller, bearer, having

pytestmark = pytest.mark.django_db

V, O, W, A = Role.VIEWER, Role.OPERATOR, Role.AUTHOR, Role.ADMIN  # noqa: E741 a table reads best in letters
ALL = {V, O, W, A}


# The id of what is there; far from those that new rows get.
ROW = 1_000_000_000


class Call(NamedTuple):
    method: str
    path: str
    allowed: set[Role]
    body: Any = None


CALLS = [
    Call("GET", "status", ALL),
    Call("GET", "configs", ALL),
    Call("GET", "configs/{config}", ALL),
    Call("POST", "configs/{config}/reassign", {O}, {"node": "birch"}),
    Call("GET", "nodes", ALL),
    Call("GET", "nodes/ash", ALL),
    Call("POST", "nodes/ash/cordon", {O}),
    Call("POST", "nodes/ash/uncordon", {O}),
    Call("POST", "nodes/ash/accept-certificate", {O}),
    Call("GET", "nodes/ash/drain", ALL),
    Call("POST", "nodes/ash/drain", {O}, {}),
    Call("GET", "nodes/ash/loss", ALL),
    Call("GET", "nodes/ash/history", ALL),
    Call("GET", "configs/{config}/history", ALL),
    Call("GET", "history", ALL),
    Call("GET", "acts", {O, A}),
    Call("GET", f"acts/{ROW}", {O, A}),
    Call("GET", "domains", ALL),
    Call("GET", "domains/a/loss", ALL),
    *(Call("GET", kind, ALL) for kind in ("pins", "pauses", "isolations", "rules", "node-rules", "plans")),
    *(Call("GET", f"{kind}/{ROW}", ALL) for kind in ("pins", "pauses", "isolations", "rules", "node-rules", "plans")),
    Call("POST", "pins", {O}, {"configs": [], "aim": "birch"}),
    Call("POST", "pauses", {O}, {"configs": []}),
    Call("POST", "freezes", {O}, {"note": "release"}),
    Call("GET", "freezes", ALL),
    Call("GET", f"freezes/{ROW}", ALL),
    Call("DELETE", f"freezes/{ROW}", {O}),
    Call("POST", "isolations", {O}, {"configs": []}),
    *(Call("DELETE", f"{kind}/{ROW}", {O}) for kind in ("pins", "pauses", "isolations", "rules", "node-rules")),
    Call("POST", "rules?accept_dangling=1", {O}, {"name": "other", "required": {"zone": "b"}}),
    Call("PUT", f"rules/{ROW}", {O}, {"name": "other", "forbidden": {"zone": "b"}}),
    Call("POST", "node-rules", {O}, {"pattern": "b*", "labels": {"zone": "b"}}),
    Call("PUT", f"node-rules/{ROW}", {O}, {"type": "runner", "weight": 0.5}),
    Call("POST", "plans", {O}, {}),
    Call("POST", f"plans/{ROW}/apply", {O}),
    Call("GET", "moves", ALL),
    Call("GET", "events", ALL),
    Call("GET", "sources", ALL),
    Call("GET", "sources/shop", ALL),
    Call("PUT", "sources/shop", {W}, {"configs": []}),
    Call("PUT", "sources/shop?dry_run=1", {W}, {"configs": []}),
    Call("GET", "node-tokens", {A}),
    Call("GET", "node-tokens/nt-00000000", {A}),
    Call("GET", "node-tokens/shared", {A}),
    Call("POST", "node-tokens", {A}, {"note": "runners", "pattern": "runner-*"}),
    Call("DELETE", "node-tokens/nt-00000000", {A}),
    Call("GET", "schema/", ALL),
]


@pytest.fixture(autouse=True)
def _work(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    report("ash")
    certificates = {"certificate": "a" * 64, "certificate_since": Now(), "other_certificate": "b" * 64}
    Runner.objects.create(node=Node.objects.get(name="ash"), **certificates)
    dispatcher.schedule([sent("one"), sent("pod", node_name="ash")])
    report("birch")
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    written = {"name": "one", "check": "http_check", "instances": [{"url": "http://one"}]}
    assert having(W).call("PUT", "sources/shop", {"configs": [written]}).status_code == 200
    User.objects.all().delete()
    pod = Config.objects.get(origins__key="pod")
    for order in (Pin(aim="ash"), Pause(), Isolation()):
        order.id, order.config, order.source, order.key = ROW, pod, "file", "pod"
        order.save()
    Rule.objects.create(pk=ROW, name="of disks", required={"disk": "fast"}, check_pattern="none")
    NodeRule.objects.create(pk=ROW, pattern="c*", labels={"zone": "c"})
    Plan.objects.create(pk=ROW, revision=1)
    Freeze.objects.create(pk=ROW)
    NodeToken.objects.create(key="nt-00000000", digest=b"", note="old", pattern="old-*")
    Act.objects.create(pk=ROW, verb=Act.Verb.EXPORT)


def state() -> Any:
    """What a refused call must not change."""
    return (
        owners(),
        dict(Node.objects.values_list("name", "schedulable")),
        set(Runner.objects.values_list("certificate")),
        set(Node.objects.filter(draining=True).values_list("name", flat=True)),
        [
            list(model.objects.order_by("pk").values())
            for model in (Config, Pin, Pause, Isolation, Rule, NodeRule, NodeToken, Plan, Freeze)
        ],
    )


def made(call: Call, caller: Caller) -> Any:
    config = Config.objects.get(origins__key="one", origins__source="file").pk
    body = call.body and call.body | ({"configs": [config]} if "configs" in call.body and call.method == "POST" else {})
    return caller.call(call.method, call.path.format(config=config), body)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_each_role_may_call_just_what_is_its(call: Call) -> None:
    before = state()
    for role in Role:
        start = transaction.savepoint()
        answer = made(call, having(role))
        if role in call.allowed:
            assert 200 <= answer.status_code < 300, answer.content
        else:
            assert answer.status_code == 403
            for word in (f"{role} lacks ", *call.allowed):
                assert word in answer.json()["detail"]
            assert state() == before
        transaction.savepoint_rollback(start)


@pytest.mark.parametrize("token", [conf.AUTH_TOKEN, conf.LOCAL_TOKEN, "x", "\xff", "a b", "", "0" * 64])
def test_no_other_token_opens_anything(token: str) -> None:
    before = state()
    for call in CALLS:
        answer = made(call, bearer(token))
        assert answer.status_code == 401, call
        assert answer["WWW-Authenticate"] == "Bearer"
    assert state() == before


def test_without_a_token_nothing_opens_and_the_answer_says_what_is_missing() -> None:
    before = state()
    for call in CALLS:
        answer = made(call, Caller({}))
        assert answer.status_code == 401, call
        assert "Bearer" in answer.content.decode()
    assert state() == before


def test_the_table_has_every_call_of_the_api() -> None:
    actions = [(pattern.name, pattern.callback.actions) for pattern in urls.router.urls]
    routes = {
        (name, method.upper()) for name, methods in actions for method in methods if method not in ("head", "patch")
    }
    told = {(resolve(f"{API}/{call.path.partition('?')[0].format(config=1)}").url_name, call.method) for call in CALLS}
    assert routes == told - {("schema", "GET")}
