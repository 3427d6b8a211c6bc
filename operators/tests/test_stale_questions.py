"""What a page shows is what its button ends: a colleague's newer order, drain, freeze or text is asked about anew."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Config, Plan, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import authored, origins
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, apply, config, superuser
from nodes.models import Node, NodeRule
from operators.admin.base import row_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NODES, FREEZES = "/admin/nodes/node/", "/admin/checks/freeze/"


@pytest.fixture
def client() -> Client:
    """shop and mail run on ash; birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail")])
    report("birch")
    return superuser()


def shop() -> list[int]:
    return [config("shop").pk]


def deletion(row: Any) -> tuple[str, dict[str, Any]]:
    return row_url(row).replace("/change/", "/delete/"), {}


def of_configs(action: str) -> tuple[str, dict[str, Any]]:
    return CONFIGS, {"action": action, "_selected_action": shop()}


def of_nodes(action: str) -> tuple[str, dict[str, Any]]:
    return NODES, {"action": action, "_selected_action": Node.objects.get(name="birch").pk}


def pinned(**how: Any) -> Pin:
    dispatcher.pin(shop(), "ash", actor="eve", **how)
    return Pin.objects.get()


def isolated(note: str = "") -> Isolation:
    dispatcher.isolate(shop(), actor="eve", note=note)
    return Isolation.objects.get()


def waiting_pin() -> Pin:
    return Pin.objects.create(source="file", key="gone", aim="ash", author="eve")


def closed(**how: bool) -> None:
    Node.objects.filter(name="birch").cordon(actor="eve", **how)


def by_hand(url: str) -> Config:
    written = authored.written("hand", "http_check", f"instances: [{{url: {url}}}]")
    origins.put("admin", "hand", written.original, text=written.written)
    return Config.objects.get(origins__source="admin")


def unscheduling() -> tuple[str, dict[str, Any]]:
    return CONFIGS, {"action": "unschedule", "_selected_action": by_hand("http://one").pk}


def rule() -> Rule:
    return Rule.objects.create(name="few", check_pattern="dns")


def node_rule() -> NodeRule:
    return NodeRule.objects.create(pattern="a*")


def group() -> Group:
    return Group.objects.create(name="shop")


# {what: (the page that asks, what a colleague does meanwhile, what is there and must stay)}
Ending = tuple[Callable[[], tuple[str, dict[str, Any]]], Callable[[], object], Callable[[], bool]]
ENDINGS: dict[str, Ending] = {
    "unpin": (lambda: pinned() and of_configs("unpin"), lambda: pinned(waits=True), Pin.objects.exists),
    "release": (lambda: isolated() and of_configs("release"), lambda: isolated("leaks"), Isolation.objects.exists),
    "delete a pin": (
        lambda: deletion(waiting_pin()), lambda: Pin.objects.update(aim="birch"), Pin.objects.exists,
    ),
    "uncordon what drains by then": (
        lambda: closed() or of_nodes("uncordon"), lambda: closed(draining=True),
        lambda: Node.objects.get(name="birch").draining,
    ),
    "uncordon what was cordoned anew": (
        lambda: closed() or of_nodes("uncordon"), lambda: (closed(schedulable=True), closed()),
        lambda: not Node.objects.get(name="birch").schedulable,
    ),
    "end a freeze": (
        lambda: (FREEZES, {"action": "thaw", "_selected_action": freezes.freeze(actor="eve").pk}),
        lambda: freezes.freeze(actor="otto", note="release"), lambda: Freeze.objects.in_force().exists(),
    ),
    "delete a rule": (lambda: deletion(rule()), lambda: Rule.objects.update(note="keep"), Rule.objects.exists),
    "delete a node rule": (
        lambda: deletion(node_rule()), lambda: NodeRule.objects.update(weight=2), NodeRule.objects.exists,
    ),
    "delete a group": (
        lambda: deletion(group()),
        lambda: Group.objects.get(name="shop").permissions.add(Permission.objects.get(codename="add_pin")),
        lambda: Group.objects.filter(name="shop").exists(),
    ),
    "delete a user": (
        lambda: deletion(User.objects.create_user("eve")),
        lambda: User.objects.get(username="eve").groups.add(Group.objects.get(name="viewer")),
        lambda: User.objects.filter(username="eve").exists(),
    ),
    "unschedule": (unscheduling, lambda: by_hand("http://two"), Config.objects.filter(origins__source="admin").exists),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDINGS)
def test_what_a_colleague_changed_since_is_not_ended_unseen(client: Client, what: str) -> None:
    page, meanwhile, is_there = ENDINGS[what]
    url, fields = page()
    asked: Any = client.post(url, fields)
    given = fields | {"post": "yes", "seen": asked.context["seen"], "typed": asked.context["word"]}
    meanwhile()
    again: Any = client.post(url, given)
    assert "Nothing was done, since something changed." in again.content.decode()
    assert is_there()
    client.post(url, given | {"seen": again.context["seen"], "typed": again.context["word"]})
    assert not is_there()


def test_the_plan_that_resumes_does_not_end_a_newer_pause(client: Client) -> None:
    dispatcher.pause(shop(), actor="eve")
    plan = plans.store(deciding.resume(shop()), author="olga")
    dispatcher.pause(shop(), actor="otto", note="a new disk")
    assert "was given another pause by otto" in apply(client, plan)
    assert Pause.objects.get().note == "a new disk"
    anew: Any = client.post(reverse("admin:checks_plan_anew", args=[plan.pk]), follow=True)
    apply(client, plans_made_of(anew))
    assert not Pause.objects.exists()


def plans_made_of(answer: Any) -> Any:
    """The plan whose page this is."""
    return answer.context["original"]


@pytest.mark.parametrize("verb", ["pin", "reassign", "pause", "isolate"])
def test_a_plan_replaces_no_order_that_was_given_since(client: Client, verb: str) -> None:
    decide: dict[str, Callable[[], Any]] = {
        "pin": lambda: deciding.pin(shop(), "ash"),
        "reassign": lambda: deciding.reassign(shop(), "birch", hold=True),
        "pause": lambda: deciding.pause(shop()),
        "isolate": lambda: deciding.isolate(shop(), note="mine"),
    }
    if verb == "pause":
        dispatcher.pause(shop(), actor="eve")
    plan = plans.store(decide[verb](), author="olga")
    give: dict[str, Callable[[], Any]] = {
        "pause": lambda: dispatcher.pause(shop(), actor="otto", note="theirs"),
        "isolate": lambda: dispatcher.isolate(shop(), actor="otto", note="theirs"),
    }
    give.get(verb, lambda: dispatcher.pin(shop(), "a*", kind=Pin.Kind.PATTERN, actor="otto", note="theirs"))()
    assert plans.why_stale(plan)
    apply(client, plan)
    plan.refresh_from_db()
    assert plan.applied_at is None
    kinds = {"pause": Pause, "isolate": Isolation}
    assert kinds.get(verb, Pin).objects.get().note == "theirs"


def test_an_order_that_was_not_shown_stays_also_in_the_last_moment() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("shop")])
    shown = pinned().pk
    newer = pinned(note="theirs").pk
    assert dispatcher.unpin(shop(), only=[shown]) == 0
    assert dispatcher.unpin(shop(), only=[newer]) == 1
    first = freezes.freeze(actor="eve").pk
    freezes.freeze(actor="otto")
    assert freezes.thaw(actor="olga", only=[first]) == 0
    assert Freeze.objects.in_force().get().author == "otto"


def test_deleting_what_is_gone_already_says_so(client: Client) -> None:
    gone = pinned()
    dispatcher.unpin(shop())
    chosen = {"action": "delete_selected", "_selected_action": gone.pk}
    page = client.post("/admin/checks/pin/", chosen, follow=True).content.decode()
    assert "what was chosen is gone already" in page


def test_an_action_of_what_is_gone_does_nothing(client: Client) -> None:
    chosen = {"action": "drain", "_selected_action": 987_654}
    page = client.post(NODES, chosen, follow=True).content.decode()
    assert "what was chosen is gone already" in page
    assert not Plan.objects.exists()


@pytest.mark.parametrize(
    ("where", "action"),
    [
        ("nodes/node", "cordon"),
        ("checks/config", "unpin"),
        ("checks/pin", "delete_selected"),
        ("checks/rule", "delete_selected"),
        ("nodes/nodetoken", "delete_selected"),
        ("auth/user", "delete_selected"),
    ],
)
def test_an_action_of_what_is_no_row_is_refused(client: Client, where: str, action: str) -> None:
    answer = client.post(f"/admin/{where}/", {"action": action, "_selected_action": "x"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "address",
    [
        "nodes/node/?domain=%00",
        "nodes/node/?domain=%%0000",
        "nodes/domain-loss/?name=%00",
        "checks/config/?q=%00",
        "map/?group=%00",
    ],
)
def test_a_nul_in_an_address_is_left_out(client: Client, address: str) -> None:
    assert client.get(f"/admin/{address}").status_code in (200, 404)


def test_what_a_plan_pinned_and_a_colleague_pinned_anew_is_not_undone_otherwise(client: Client) -> None:
    plan = plans.store(deciding.pin(shop(), "birch"), author="olga")
    apply(client, plan)
    asked = client.post(url := reverse("admin:checks_plan_undo", args=[plan.pk]), {"way": "unpin"})
    dispatcher.pin(shop(), "birch", actor="eve")
    page = client.post(
        url, dict(asked.context["hidden"]) | {"seen": asked.context["seen"]}, follow=True
    ).content.decode()
    assert "Nothing was done: this plan&#x27;s pins, or its moves, were taken back or replaced already." in page
    assert Pin.objects.get().author == "eve"
    assert Act.objects.latest("pk").verb == "refuse"
