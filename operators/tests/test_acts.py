"""Each entrance by which a person changes something leaves an act. The entrances are listed from what is registered."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import call_command, get_commands
from django.db.models.functions import Now
from django.test import Client, RequestFactory
from django.urls import URLPattern, get_resolver
from knox.models import AuthToken

from acts import recording
from acts.models import Act
from acts.recording import entered
from checks import dispatcher, plans, sources
from checks.dispatcher import costs, deciding
from checks.dispatcher.costs import Measured
from checks.explain import state
from checks.models import Config, Cost, Instance, Move, Origin, Plan, Source, freezes
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import files, origins
from checks.tests.balance import furnish
from checks.tests.cast import hand_over, owners, report, sent, silence
from checks.tests.operators import act, act_confirmed, apply, config, confirmed, opened, planned, shown
from checks.views import ActingView
from clusteragent.command import VERBS
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.logs import RateLimit
from nodes.authentication import LOCAL_TOKEN
from nodes.models import Node, NodeRule, NodeToken, Runner
from nodes.statsclient import Round
from operators import lockout, middleware
from operators.admin.questions import Question
from operators.api.urls import router
from operators.models import SavedView
from operators.pages import remedies
from operators.roles import Role
from operators.tests.cast import bearer, user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

RULE = {"name": "web", "check_pattern": "web", "source_pattern": "*", "required": "{}", "forbidden": "{}"}
NODE_RULE = {"pattern": "run-*", "labels": "{}", "network": ""}
EXPIRY = {"expiry_0": "2100-01-01", "expiry_1": "08:00:00"}
PASSWORD = "correct horse battery"


class World(SimpleNamespace):
    """ash runs shop, mail and hand, which somebody wrote; birch is idle, elm lost. olga may do everything, in each way."""

    client: Client
    olga: User
    folder: Path

    def post(self, url: str, **fields: Any) -> str:
        response = self.client.post(f"/admin/{url}", opened(self.client, f"/admin/{url}") | fields, follow=True)
        assert response.status_code == 200, response.content
        return str(response.content.decode())

    def action(self, where: str, name: str, *rows: Any, **fields: Any) -> str:
        return self.post(f"{where}/", action=name, _selected_action=[row.pk for row in rows], **fields)

    def plan(self, url: str, **fields: Any) -> None:
        apply(self.client, shown(self.client, f"/admin/{url}", **fields))

    def confirm(self, url: str, **fields: Any) -> None:
        confirmed(self.client, f"/admin/{url}", **fields)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.caller.call(method, path, body)
        assert answer.status_code in (200, 201, 204), answer.content
        return answer

    def run(self, verb: str, *words: str) -> None:
        call_command(verb, *words, "--as", "olga")

    def order(self, verb: str, key: str = "shop", **how: Any) -> Any:
        """What `verb` orders of the config, by nobody: it is not on record."""
        getattr(dispatcher, verb)([config(key).pk], actor="eve", **how)
        return {"pin": Pin, "pause": Pause, "isolate": Isolation}[verb].objects.get()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setattr(costs, "measure", lambda: Measured(Round(0, 0, 0.0), 0, 0))
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("hand", source="admin")])
    hand_over()
    report("birch", "elm")
    silence("elm")
    dispatcher.expire_nodes(force=True)
    olga = User.objects.create_superuser("olga", password=None)
    client = Client()
    client.force_login(olga)
    token = AuthToken.objects.create(olga)[1]
    return World(client=client, olga=olga, caller=bearer(token), folder=tmp_path)


def held(world: World) -> Source:
    """The source of files, which holds removals."""
    for number in range(12):
        (world.folder / f"check{number}.yaml").write_text(f"cluster_check: true\ninstances: [{{url: u{number}}}]\n")
    Origin.objects.filter(source="file").delete()
    Config.objects.exclude(origins__source="admin").delete()
    sources.sync_settled()
    for file in world.folder.iterdir():
        file.unlink()
    sources.sync_settled()
    source = Source.objects.get(name="file")
    assert source.held_removals
    return source


def file_source(world: World) -> Source:
    return Source.objects.get_or_create(name="file")[0]


def rule() -> Rule:
    return Rule.objects.create(name="old", check_pattern="old")


def node_rule() -> NodeRule:
    return NodeRule.objects.create(pattern="old-*")


def view_of(world: World) -> SavedView:
    return SavedView.objects.create(owner=world.olga, of="checks.config", name="old", query={"owner": "assigned"})


def plan_of(verb: str = "pause") -> Plan:
    return plans.store(getattr(deciding, verb)([config("shop").pk]), author="eve")


def waiting_pin() -> Pin:
    return Pin.objects.create(source="file", key="later", aim="ash")


def waiting_pause() -> Pause:
    return Pause.objects.create(source="file", key="later")


def undo_of_plan(w: World) -> None:
    plan = planned(w.client, "reassign", ["shop"], node="birch")
    apply(w.client, plan)
    w.plan(f"checks/plan/{plan.pk}/undo/")


def freeze() -> Any:
    return freezes.freeze(actor="eve")


def node(name: str = "ash") -> Node:
    return Node.objects.get(name=name)


def busy() -> None:
    furnish(oak=[1.5, 1.5, 1.5], pine=[])


def token_of(name: str) -> AuthToken:
    return AuthToken.objects.create(user(name))[0]


def node_token() -> NodeToken:
    row = NodeToken(note="old", pattern="old-*")
    row.draw()
    row.save()
    return row


def offered() -> None:
    certificates = {"certificate": "a" * 64, "certificate_since": Now(), "other_certificate": "b" * 64}
    Runner.objects.update_or_create(node=node(), defaults=certificates)


def isolate_by_admin(w: World) -> None:
    Plan.objects.all().delete()
    act(w.client, "isolate", ["shop"])
    apply(w.client, Plan.objects.get())


def drain_by_admin(w: World) -> None:
    w.action("nodes/node", "drain", node())
    apply(w.client, Plan.objects.get())


def rebalance_by_admin(w: World) -> None:
    busy()
    w.post("checks/plan/rebalance/", force="on", unlimited="on")
    apply(w.client, Plan.objects.get())


def undo_by_admin(w: World) -> None:
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    w.plan("changes/undo/", move=[Move.objects.order_by("-pk")[0].pk])


def accept_by_admin(w: World) -> None:
    source = held(w)
    confirmed(w.client, "/admin/checks/source/", action="accept_removals", _selected_action=[source.pk])


def change_password(w: World) -> None:
    w.olga.set_password(PASSWORD)
    w.olga.save()
    w.client.force_login(w.olga)
    w.post("password_change/", old_password=PASSWORD, new_password1=f"{PASSWORD}!", new_password2=f"{PASSWORD}!")


def log_in(w: World) -> None:
    User.objects.create_superuser("eve", password=PASSWORD)
    Client().post("/admin/login/", {"username": "eve", "password": PASSWORD})


def remedy(kind: str, **fields: Any) -> Callable[[World], object]:
    shows = remedies.REMEDIES[kind].forecast
    return lambda w: (w.confirm if shows else w.post)(f"now/remedy/{kind}/", **fields)


def adopt(w: World) -> None:
    file = w.folder / "state.json"
    file.write_bytes(b"".join(state.document()))
    Source.objects.update(read_at=Now())
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    with suppress(SystemExit):
        w.run("adopt", "--file", str(file), "--apply")


def export(w: World) -> None:
    w.run("exportstate", str(w.folder / "state"))


def import_(w: World) -> None:
    call_command("exportstate", str(w.folder / "state"))
    w.run("importstate", str(w.folder / "state"), "--merge")


def check_id() -> str:
    return Instance.objects.get(config=config("shop")).check_id


def replace_set(w: World) -> None:
    w.call(
        "PUT", "sources/shop", {"configs": [{"name": "one", "check": "http_check", "yaml": "instances: [{url: u}]"}]}
    )


USER = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
NEW_USER = {"username": "eve", "first_name": "Eve", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}

# {entrance: what passes it, and does something}
ADMIN: dict[str, Callable[[World], object]] = {
    "config:reassign": lambda w: apply(w.client, planned(w.client, "reassign", ["shop"], node="birch")),
    "config:pin": lambda w: apply(w.client, planned(w.client, "pin", ["shop"], kind="node", aim="ash")),
    "config:pause": lambda w: apply(w.client, planned(w.client, "pause", ["shop"])),
    "config:isolate": isolate_by_admin,
    "config:unpin": lambda w: (w.order("pin", aim="ash"), act_confirmed(w.client, "unpin", ["shop"])),
    "config:resume": lambda w: (
        w.order("pause"),
        w.plan("checks/config/", action="resume", _selected_action=config("shop").pk),
    ),
    "config:release": lambda w: (w.order("isolate"), act_confirmed(w.client, "release", ["shop"])),
    "config:unschedule": lambda w: act_confirmed(w.client, "unschedule", ["hand"]),
    "config:add": lambda w: w.confirm(
        "checks/config/add/", key="new", check="http_check", yaml="instances: [{url: u}]"
    ),
    "config:change": lambda w: w.confirm(
        f"checks/config/{config('hand').pk}/change/", check="http_check", yaml="instances: [{url: other}]"
    ),
    "node:cordon": lambda w: w.confirm("nodes/node/", action="cordon", _selected_action=[node().pk]),
    "node:uncordon": lambda w: (
        Node.objects.all().cordon(),
        w.confirm("nodes/node/", action="uncordon", _selected_action=[node().pk]),
    ),
    "node:drain": drain_by_admin,
    "node:accept_certificate": lambda w: (
        offered(),
        w.confirm("nodes/node/", action="accept_certificate", _selected_action=[node().pk]),
    ),
    "node:forget": lambda w: w.confirm("nodes/node/", action="forget", _selected_action=[node("elm").pk]),
    "source:scan_now": lambda w: w.action("checks/source", "scan_now", file_source(w)),
    "source:accept_removals": accept_by_admin,
    "freeze:add": lambda w: w.confirm("checks/freeze/add/", note="release"),
    "freeze:thaw": lambda w: w.confirm("checks/freeze/", action="thaw", _selected_action=[freeze().pk]),
    "pin:add": lambda w: w.plan("checks/pin/add/", configs=str(config("shop")), kind="node", aim="ash"),
    "pin:change": lambda w: w.post(f"checks/pin/{waiting_pin().pk}/change/", kind="node", aim="birch"),
    "pin:delete": lambda w: w.confirm(f"checks/pin/{waiting_pin().pk}/delete/"),
    "pin:delete_selected": lambda w: w.confirm(
        "checks/pin/", action="delete_selected", _selected_action=[w.order("pin", aim="ash").pk, waiting_pin().pk]
    ),
    "pause:add": lambda w: w.plan("checks/pause/add/", configs=str(config("shop"))),
    "pause:change": lambda w: w.plan(f"checks/pause/{w.order('pause').pk}/change/", note="longer"),
    "pause:delete": lambda w: w.confirm(f"checks/pause/{waiting_pause().pk}/delete/"),
    "pause:resume": lambda w: w.plan("checks/pause/", action="resume", _selected_action=w.order("pause").pk),
    "pause:resume_group": lambda w: w.plan(
        "checks/pause/", action="resume_group", _selected_action=w.order("pause").pk
    ),
    "isolation:add": lambda w: w.plan("checks/isolation/add/", configs=str(config("shop"))),
    "isolation:change": lambda w: w.plan(f"checks/isolation/{w.order('isolate').pk}/change/", note="leaks"),
    "isolation:delete": lambda w: w.confirm(f"checks/isolation/{w.order('isolate').pk}/delete/"),
    "isolation:delete_selected": lambda w: w.confirm(
        "checks/isolation/", action="delete_selected", _selected_action=[w.order("isolate").pk]
    ),
    "rule:add": lambda w: w.confirm("checks/rule/add/", **RULE),
    "rule:change": lambda w: w.confirm(f"checks/rule/{rule().pk}/change/", **RULE),
    "rule:delete": lambda w: w.confirm(f"checks/rule/{rule().pk}/delete/", post="yes"),
    "rule:delete_selected": lambda w: w.confirm(
        "checks/rule/", action="delete_selected", _selected_action=[rule().pk], post="yes"
    ),
    "noderule:add": lambda w: w.confirm("nodes/noderule/add/", **NODE_RULE),
    "noderule:change": lambda w: w.confirm(f"nodes/noderule/{node_rule().pk}/change/", **NODE_RULE),
    "noderule:delete": lambda w: w.confirm(f"nodes/noderule/{node_rule().pk}/delete/", post="yes"),
    "noderule:delete_selected": lambda w: w.confirm(
        "nodes/noderule/", action="delete_selected", _selected_action=[node_rule().pk], post="yes"
    ),
    "user:add": lambda w: w.post("auth/user/add/", **USER),
    "user:change": lambda w: w.confirm(f"auth/user/{user('eve', Role.VIEWER).pk}/change/", **NEW_USER),
    "user:delete": lambda w: w.confirm(f"auth/user/{user('eve').pk}/delete/"),
    "user:delete_selected": lambda w: w.confirm(
        "auth/user/", action="delete_selected", _selected_action=[user("eve").pk]
    ),
    "group:add": lambda w: w.post("auth/group/add/", name="night"),
    "group:change": lambda w: w.post(f"auth/group/{Group.objects.get(name='viewer').pk}/change/", name="viewers"),
    "group:delete": lambda w: w.confirm(f"auth/group/{Group.objects.create(name='old').pk}/delete/"),
    "group:delete_selected": lambda w: w.confirm(
        "auth/group/", action="delete_selected", _selected_action=[Group.objects.create(name="old").pk]
    ),
    "authtoken:add": lambda w: w.confirm("knox/authtoken/add/", user=w.olga.pk, **EXPIRY),
    "authtoken:delete": lambda w: w.confirm(f"knox/authtoken/{token_of('eve').pk}/delete/"),
    "authtoken:delete_selected": lambda w: w.confirm(
        "knox/authtoken/", action="delete_selected", _selected_action=[token_of("eve").pk]
    ),
    "nodetoken:add": lambda w: w.confirm("nodes/nodetoken/add/", note="runners", pattern="runner-*"),
    "nodetoken:delete": lambda w: w.confirm(f"nodes/nodetoken/{node_token().pk}/delete/"),
    "nodetoken:delete_selected": lambda w: w.confirm(
        "nodes/nodetoken/", action="delete_selected", _selected_action=[node_token().pk]
    ),
}
# Pages with an address of their own, each with what passes it, or why it leaves no act.
PAGES: dict[str, Callable[[World], object] | str] = {
    "checks_plan_apply": lambda w: apply(w.client, plan_of()),
    "checks_plan_rebalance": rebalance_by_admin,
    "checks_plan_anew": "It makes a plan, and moves nothing.",
    "checks_plan_undo": undo_of_plan,
    "auth_user_password_change": lambda w: w.post(
        f"auth/user/{user('eve').pk}/password/", usable_password="true", password1=PASSWORD, password2=PASSWORD
    ),
    "undo": undo_by_admin,
    "save-view": lambda w: w.post("operators/savedview/save/", of="checks.config", query="owner=assigned", name="mine"),
    "delete-view": lambda w: w.post(f"operators/savedview/{view_of(w).pk}/delete/"),
    "view": "It is read.",
    "session": "It is read.",
    "remedy": remedy("dangling"),
    "password_change": change_password,
    "login": log_in,
    "signon": "It sends the browser to the provider.",
    "signon-answer": "test_single_sign_on.py has its acts: it needs a provider.",
    "logout": lambda w: w.client.post("/admin/logout/"),
    "jsi18n": "It is read.",
    "map": "It is read.",
    "checks_config_remarks": "It judges a text and stores nothing.",
    "checks_config_template": "It is read.",
    "checks_config_reassign": "It asks for a node, and moves nothing.",
    "failures": "It is read.",
    "history": "It is read.",
    "groups": "It is read.",
    "completions": "It is read.",
    "autocomplete": "It is read.",
    "view_on_site": "It is read.",
    "app_list": "It is read.",
    "index": "It is read.",
    "now": "It is read.",
    "search": "It is read.",
    "changes": lambda w: w.client.get("/admin/changes/?last=1d&format=csv"),
    "story": "It is read.",
    "loss": "It is read.",
    "others": "It is read.",
    "domain-loss": "It is read.",
    "documentation": "It is read.",
    "password_change_done": "It is read.",
    "toggle_sidebar": "It is how the user's own browser shows the sidebar.",
}
REMEDIES: dict[str, Callable[[World], object] | str] = {
    "overloaded": "A plan changes nothing until it is applied, and is kept with its author.",
    "unpin": lambda w: (held_by_a_pin(w), remedy("unpin")(w)),
    "unscheduled": remedy("unscheduled"),
    "dangling": remedy("dangling"),
    "pause_overdue": lambda w: (w.order("pause"), overdue(), w.plan("now/remedy/pause_overdue/")),
    "quarantined": lambda w: (w.order("isolate"), quarantine(), remedy("quarantined")(w)),
    "source_error": lambda w: (file_source(w), remedy("source_error", subject="file")(w)),
    "frozen": lambda w: (freeze(), remedy("frozen")(w)),
}


def held_by_a_pin(w: World) -> None:
    w.order("pin", aim="ash")
    overloaded = {"workers": 4, "overloaded_rounds": 2, "overloaded_since": Now()}
    Runner.objects.update_or_create(node=node(), defaults=overloaded)
    Cost.objects.update_or_create(config=config("shop"), defaults={"workers_needed": 8})
    # Elsewhere it fits.
    Runner.objects.update_or_create(node=Node.objects.get(name="birch"), defaults={"workers": 16})


def overdue() -> None:
    Pause.objects.update(until=ago(conf.NODE_EXPIRATION_TIMEOUT))


def quarantine() -> None:
    Isolation.objects.update(reason=Isolation.Reason.QUARANTINED)


API: dict[str, Callable[[World], object] | str] = {
    "POST configs/reassign": lambda w: w.call("POST", f"configs/{config('shop').pk}/reassign", {"node": "birch"}),
    "POST nodes/cordon": lambda w: w.call("POST", "nodes/ash/cordon"),
    "POST nodes/uncordon": lambda w: (Node.objects.all().cordon(), w.call("POST", "nodes/ash/uncordon")),
    "POST nodes/accept_certificate": lambda w: (offered(), w.call("POST", "nodes/ash/accept-certificate")),
    "POST nodes/drain": lambda w: w.call("POST", "nodes/ash/drain", {}),
    "POST pins": lambda w: w.call("POST", "pins", {"configs": [config("shop").pk], "kind": "node", "aim": "ash"}),
    "DELETE pins": lambda w: w.call("DELETE", f"pins/{w.order('pin', aim='ash').pk}"),
    "POST pauses": lambda w: w.call("POST", "pauses", {"configs": [config("shop").pk]}),
    "DELETE pauses": lambda w: w.call("DELETE", f"pauses/{w.order('pause').pk}"),
    "POST isolations": lambda w: w.call("POST", "isolations", {"configs": [config("shop").pk]}),
    "DELETE isolations": lambda w: w.call("DELETE", f"isolations/{w.order('isolate').pk}"),
    "POST rules": lambda w: w.call("POST", "rules", {"name": "web", "check_pattern": "web"}),
    "PUT rules": lambda w: w.call("PUT", f"rules/{rule().pk}", {"name": "web", "check_pattern": "web"}),
    "DELETE rules": lambda w: w.call("DELETE", f"rules/{rule().pk}"),
    "POST node-rules": lambda w: w.call("POST", "node-rules", {"pattern": "run-*", "weight": 2}),
    "PUT node-rules": lambda w: w.call("PUT", f"node-rules/{node_rule().pk}", {"pattern": "run-*", "weight": 2}),
    "DELETE node-rules": lambda w: w.call("DELETE", f"node-rules/{node_rule().pk}"),
    "POST node-tokens": lambda w: w.call("POST", "node-tokens", {"note": "runners", "pattern": "runner-*"}),
    "DELETE node-tokens": lambda w: w.call("DELETE", f"node-tokens/{node_token().key}"),
    "POST plans": "A plan changes nothing until it is applied, and is kept with its author.",
    "POST plans/apply": lambda w: w.call("POST", f"plans/{plan_of().pk}/apply"),
    "POST freezes": lambda w: w.call("POST", "freezes", {"note": "release"}),
    "DELETE freezes": lambda w: w.call("DELETE", f"freezes/{freeze().pk}"),
    "PUT sources": replace_set,
}
READS = "It changes nothing."
SERVES = "It is a process; what it does by itself is in the ledger and in events."
COMMANDS: dict[str, Callable[[World], object] | str] = {
    "adopt": adopt,
    "importstate": import_,
    "exportstate": export,
    "syncconfigs": lambda w: w.run("syncconfigs"),
    "redispatch": lambda w: w.run("redispatch"),
    "rebalance": lambda w: (busy(), w.run("rebalance", "--force")),
    "reassign": lambda w: w.run("reassign", str(config("shop")), "--to", "birch"),
    "pin": lambda w: w.run("pin", str(config("shop")), "ash"),
    "unpin": lambda w: (w.order("pin", aim="ash"), w.run("unpin", str(config("shop")))),
    "pause": lambda w: w.run("pause", str(config("shop"))),
    "resume": lambda w: (w.order("pause"), w.run("resume", str(config("shop")))),
    "isolate": lambda w: w.run("isolate", check_id()),
    "release": lambda w: (w.order("isolate"), w.run("release", check_id())),
    "plan": lambda w: w.run("plan", "apply", str(plan_of().pk)),
    "drain": lambda w: w.run("drain", "ash"),
    "acceptcertificate": lambda w: (offered(), w.run("acceptcertificate", "ash")),
    "freeze": lambda w: w.run("freeze"),
    "thaw": lambda w: (freeze(), w.run("thaw")),
    "expirenodes": lambda w: w.run("expirenodes"),
    "pruneledger": lambda w: w.run("pruneledger"),
    "createtoken": lambda w: w.run("createtoken", "--user", "olga"),
    "nodetoken": lambda w: w.run("nodetoken", "add", "--note", "runners", "--nodes", "runner-*"),
    "unlock": lambda w: w.run("unlock"),
    "breakglass": lambda w: w.run("breakglass"),
    "createsuperuser": lambda w: w.run("createsuperuser", "--no-input", "--username", "boss", "--email", ""),
    "changepassword": "test_sessions.py has its act: it asks for the password.",
    "migrate": "It changes the schema, and makes the first operator when there is none.",
    "learnintegrations": "It writes a file of words for warnings.",
} | dict.fromkeys(("check", "completion", "status", "doctor", "clusterchecks", "why", "whatif", "leader"), READS) | (
    dict.fromkeys(
        ("all", "agents", "operators", "runagent", "simulatenodes", "serve", "start", "runworker", "watchkubernetes"),
        SERVES,
    )
)  # fmt: skip
OURS = {"acts", "nodes", "checks", "operators", "clusteragent"}


def admin_entrances() -> set[str]:
    """The actions of all lists, and the forms that a superuser may send."""
    request = RequestFactory().get("/")
    request.user = User(username="olga", is_superuser=True, is_active=True, is_staff=True)
    found = set()
    for model, site in admin.site._registry.items():
        name, row = model._meta.model_name, model()
        found |= {f"{name}:{action}" for action in site.get_actions(request)}
        found |= {f"{name}:add"} if site.has_add_permission(request) else set()
        found |= {f"{name}:delete"} if site.has_delete_permission(request, row) else set()
        if name == "config" or site.has_change_permission(request, row):
            found.add(f"{name}:change")
    return found


def own_pages() -> set[str]:
    """The names of the admin's addresses that are no model's list or form."""
    standard = {
        f"{model._meta.app_label}_{model._meta.model_name}_{page}"
        for model in admin.site._registry
        for page in ("changelist", "add", "change", "delete", "history")
    }
    return {name for name in _names(get_resolver("clusteragent.urls.operators"), "") if name not in standard}


def _names(resolver: Any, path: str) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        here = path + str(pattern.pattern)
        if not isinstance(pattern, URLPattern):
            yield from _names(pattern, here)
        elif here.startswith("admin/") and pattern.name:
            yield str(pattern.name)


def api_entrances() -> set[str]:
    """The methods of all resources that aren't read."""
    found = set()
    for prefix, viewset, _ in router.registry:
        for route in router.get_routes(viewset):
            for method, name in route.mapping.items():
                offered = hasattr(viewset, name) and method in viewset.http_method_names
                if offered and method not in ("get", "head"):
                    more = "" if name in ("create", "update", "destroy") else f"/{name}"
                    found.add(f"{method.upper()} {prefix}{more}")
    return found


def commands() -> set[str]:
    return set(VERBS) | {name for name, app in get_commands().items() if app in OURS}


def test_no_entrance_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new action, form, page, call or command is added to the tables above, with what passes it or why it leaves no act."""
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    assert admin_entrances() == set(ADMIN)
    assert own_pages() <= set(PAGES)
    assert set(remedies.REMEDIES) == set(REMEDIES)
    assert api_entrances() == set(API)
    assert commands() == set(COMMANDS)


def acted(w: World, passes: Callable[[World], object]) -> Act:
    """The act that passing an entrance leaves."""
    before = set(Act.objects.values_list("pk", flat=True))
    passes(w)
    found: Any = Act.objects.exclude(pk__in=before).order_by("pk").last()
    assert found is not None, "no act"
    assert found.object
    return found  # type: ignore[no-any-return]


def passing(table: dict[str, Any]) -> list[str]:
    return [name for name, passes in table.items() if callable(passes)]


@pytest.fixture
def agreed(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """What somebody was asked and has agreed to."""
    found, asks = [], Question.unanswered

    def unanswered(question: Question, *args: Any, **how: Any) -> Any:
        page = asks(question, *args, **how)
        found.extend([] if page else [question])
        return page

    monkeypatch.setattr(Question, "unanswered", unanswered)
    return found


@pytest.mark.parametrize("entrance", ADMIN)
def test_what_is_done_in_the_admin_is_on_record(world: World, agreed: list[Question], entrance: str) -> None:
    found = acted(world, ADMIN[entrance])
    assert (found.person, found.how, found.address) == ("olga", "admin", "127.0.0.1")
    # With what was shown before.
    for question in agreed[-1:]:
        told = recording.hidden({"sentences": question.sentences, "worse": question.worse})
        assert {name: (found.foreseen or {}).get(name, []) for name in told} == told


@pytest.mark.parametrize("page", passing(PAGES))
def test_so_is_what_its_own_pages_do(world: World, page: str) -> None:
    assert acted(world, PAGES[page]).how == "admin"  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", passing(REMEDIES))
def test_so_is_each_remedy(world: World, kind: str) -> None:
    assert acted(world, REMEDIES[kind]).person == "olga"  # type: ignore[arg-type]


@pytest.mark.parametrize("call", passing(API))
def test_so_is_what_a_token_does(world: World, call: str) -> None:
    found = acted(world, API[call])  # type: ignore[arg-type]
    assert (found.person, found.how, found.address) == ("olga", "API", "127.0.0.1")


# They read the map as of one moment, in a transaction of their own.
_SNAPSHOTS = {"adopt", "importstate", "exportstate"}
_COMMITTING = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "verb", [pytest.param(one, marks=_COMMITTING) if one in _SNAPSHOTS else one for one in passing(COMMANDS)]
)
def test_so_is_what_a_command_does(world: World, verb: str) -> None:
    found = acted(world, COMMANDS[verb])  # type: ignore[arg-type]
    assert (found.person, found.how) == ("olga", "command")
    assert found.address.endswith(f" on {conf.REPLICA}")


def test_a_login_that_failed_is_on_record_but_not_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "_failures", RateLimit(2, seconds=3600))
    user("eve")
    for name in ("eve", "Winter2024!", "eve"):
        Client().post("/admin/login/", {"username": name, "password": "wrong"}, REMOTE_ADDR="192.0.2.1")
    found = Act.objects.filter(verb=Act.Verb.FAIL).order_by("pk")
    assert [act.object for act in found] == ["eve", "no user's name"]
    assert {(act.person, act.address) for act in found} == {("", "192.0.2.1")}


def test_logins_that_failed_too_often_are_on_record(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "MOST_OF_PAIR", 2)
    user("eve")
    for _ in range(2):
        Client().post("/admin/login/", {"username": "eve", "password": "wrong"}, REMOTE_ADDR="192.0.2.1")
    [found] = Act.objects.filter(verb=Act.Verb.LOCK_OUT)
    assert (found.person, found.address, found.object) == ("", "192.0.2.1", "name from this address: eve")


def test_what_is_no_users_name_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a password in the wrong field."""
    monkeypatch.setattr(lockout, "MOST_OF_PAIR", 2)
    for _ in range(2):
        Client().post("/admin/login/", {"username": "Winter2024!", "password": "wrong"}, REMOTE_ADDR="192.0.2.1")
    [found] = Act.objects.filter(verb=Act.Verb.LOCK_OUT)
    assert found.object == "name from this address: no user's name"


def test_what_a_user_may_not_do_is_on_record_but_not_for_ever(world: World) -> None:
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER))
    for _ in range(12):
        assert viewer.post("/admin/checks/pin/add/").status_code == 403
    found = Act.objects.filter(verb=Act.Verb.REFUSE)
    assert {(act.person, act.object) for act in found} == {("vera", "add to the pins")}
    assert found.count() == middleware.MOST_REFUSED
    token = bearer(AuthToken.objects.create(user("otto", Role.VIEWER))[1])
    assert token.call("POST", "nodes/ash/cordon").status_code == 403
    last = Act.objects.latest("pk")
    assert (last.person, last.how, last.object) == ("otto", "API", "cordon ash")
    assert str(last) == "was refused: cordon ash"


REFUSED = {
    "cordon ash": ("POST", "nodes/ash/cordon", "nodes"),
    "reassign {shop}": ("POST", "configs/{pk}/reassign", "configs"),
    "POST /api/operator/v1/nodes/<name>/cordon/": ("POST", "nodes/oak/cordon", ""),
    "POST /api/operator/v1/pins/": ("POST", "pins", ""),
    "change source api:shop": ("PUT", "sources/shop", ""),
    "PUT /api/operator/v1/sources/<name>/": ("PUT", "sources/file", ""),
    "apply plan {plan}: Drain ash": ("POST", "/admin/checks/plan/{plan}/apply/", ""),
    "change node ash": ("POST", "/admin/nodes/node/{node}/change/", "nodes"),
    "see user vera": ("GET", "/admin/auth/user/{user}/change/", ""),
    "see what deleting user vera does": ("GET", "/admin/auth/user/{user}/delete/", ""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_names_what_it_was_about_if_there_is_such_a_row(world: World, what: str) -> None:
    method, path, about = REFUSED[what]
    vera = user("vera", Role.VIEWER)
    Source.objects.create(name="api:shop")
    plan = plans.store(deciding.drain(["ash"]), author="olga").pk
    ids = {"pk": config("shop").pk, "node": Node.objects.get(name="ash").pk, "user": vera.pk, "plan": plan}
    viewer = Client()
    viewer.force_login(vera)
    caller = bearer(AuthToken.objects.create(vera)[1])
    if path.startswith("/"):
        answer = getattr(viewer, method.lower())(path.format(**ids))
    else:
        answer = caller.call(method, path.format(**ids), {})
    assert answer.status_code == 403
    found = Act.objects.latest("pk")
    assert (found.verb, found.object) == ("refuse", what.format(shop=config("shop"), plan=plan))
    named = {"nodes": ["ash"], "configs": [ids["pk"]]}
    assert found.about == ({about: named[about]} if about else {})


@pytest.mark.parametrize(("rows", "object_"), [("ash birch", "cordon ash and birch"), ("", "cordon the list of nodes")])
def test_a_refused_action_of_a_list_names_it_and_its_rows(world: World, rows: str, object_: str) -> None:
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER))
    chosen = [*Node.objects.filter(name__in=rows.split()).order_by("name").values_list("pk", flat=True), "999999"]
    assert viewer.post("/admin/nodes/node/", {"action": "cordon", "_selected_action": chosen}).status_code == 403
    found = Act.objects.latest("pk")
    assert (found.verb, found.object) == ("refuse", object_)
    assert found.about == ({"nodes": rows.split()} if rows else {})


def test_a_call_by_a_session_without_its_csrf_token_is_on_record(world: World) -> None:
    """As a page of somebody else's makes it in the browser of a user."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.olga)
    assert browser.post("/api/operator/v1/nodes/ash/cordon", content_type="application/json").status_code == 403
    found = Act.objects.latest("pk")
    assert (found.person, found.verb, found.object) == ("olga", "refuse", "cordon ash")
    assert (found.reason, found.credential) == ("the call had no CSRF token of the session", "session")
    # As often as all that a user may not do: a foreign page must not fill the table.
    for _ in range(2 * middleware.MOST_REFUSED):
        browser.post("/api/operator/v1/nodes/ash/cordon", content_type="application/json")
    assert Act.objects.filter(verb="refuse").count() == middleware.MOST_REFUSED
    browser.cookies[settings.CSRF_COOKIE_NAME] = "a" * 32
    broken = browser.post("/api/operator/v1/nodes/ash/cordon", b"x", content_type="multipart/form-data")
    assert broken.status_code == 415


def test_a_form_with_too_many_fields_that_is_refused_for_its_origin_is_on_record(world: World) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(world.olga)
    fields = {f"field{number}": "" for number in range(2000)}
    answer = browser.post("/admin/nodes/node/", fields, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert Act.objects.latest("pk").object == "act on the list of nodes"


def test_an_act_of_many_configs_names_them_beside(world: World) -> None:
    """Their plan, which names them too, is deleted sooner than the act."""
    dispatcher.schedule([sent(f"one-{number}") for number in range(4)])
    ids = list(Config.objects.values_list("pk", flat=True))
    caller = bearer(AuthToken.objects.create(world.olga)[1])
    assert caller.call("POST", "pauses", {"configs": ids}).status_code == 201
    paused = Act.objects.latest("pk")
    assert sorted(paused.after["configs"]) == sorted(map(str, Config.objects.all()))


@pytest.mark.parametrize("made_up", ["%00", "give-eve-more-rights", "%E2%80%AE"])
def test_an_address_that_somebody_made_up_is_not_put_in_a_users_mouth(world: World, made_up: str) -> None:
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER))
    assert viewer.get(f"/admin/auth/user/{made_up}/change/").status_code == 403
    assert Act.objects.latest("pk").object == "see one of the users"


def test_a_form_that_is_out_of_date_is_no_lack_of_permission(world: World) -> None:
    viewer = Client(enforce_csrf_checks=True)
    viewer.force_login(user("vera", Role.VIEWER))
    assert viewer.post("/admin/changes/undo/").status_code == 403
    assert Act.objects.latest("pk").reason == "the form was out of date"


def test_texts_of_acts_have_no_control_characters(world: World) -> None:
    with recording.entered("admin", "", lambda: "olga"):
        recording.record(Act.Verb.EXPORT, "a\nb\0c", reason="d\re")
    found = Act.objects.latest("pk")
    assert not any(character in found.object + found.reason for character in "\n\0\r")


def test_what_strangers_may_not_do_is_not(world: World) -> None:
    before = Act.objects.count()
    assert Client().post("/api/operator/v1/nodes/ash/cordon").status_code in (401, 403)
    assert bearer("nobody's").call("POST", "nodes/ash/cordon").status_code in (401, 403)
    Client().post("/admin/checks/pin/add/")
    Client().get("/admin/changes/?last=1d&format=csv")
    Client().post("/admin/logout/")
    assert Act.objects.count() == before


def test_a_plan_that_was_stale_and_a_refused_order_are_on_record(world: World) -> None:
    plan = plan_of()
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    found = acted(world, lambda w: apply(w.client, plan))
    assert (found.verb, found.plan, found.object) == ("refuse", plan.pk, f"plan {plan.pk}: Pause http_check shop")
    assert found.reason == f"{config('shop')} is now on birch"
    found = acted(world, lambda w: w.caller.call("POST", f"configs/{config('shop').pk}/reassign", {"node": "oak"}))
    assert (found.verb, found.how, found.object) == ("refuse", "API", f"reassign {config('shop')}")
    assert "oak" in found.reason


def test_a_reassignment_that_also_pins_says_so(world: World) -> None:
    dispatched = planned(world.client, "reassign", ["shop"], node="birch", hold="pinned")
    found = acted(world, lambda w: apply(w.client, dispatched))
    assert found.object == f"{config('shop')} to birch, pinned there"


def test_an_isolation_names_what_is_isolated_and_counts_what_makes_room(world: World) -> None:
    here = [key for key, node in owners().items() if node == owners()["shop"]]
    assert len(here) > 1
    found = acted(world, isolate_by_admin)
    assert found.object == str(config("shop"))
    assert found.after == {"reason": "isolated", "others_moved": len(here) - 1}
    assert f"{config('shop')}, " in world.client.get("/admin/changes/").content.decode()


def test_a_reassignment_and_its_undo_say_where_configs_were_and_are(world: World) -> None:
    shop, home = str(config("shop")), owners()["shop"]
    there = "birch" if home == "ash" else "ash"
    found = acted(world, lambda w: w.caller.call("POST", f"configs/{config('shop').pk}/reassign", {"node": there}))
    assert found.before == [{"config": shop, "node": home}]
    assert found.after["node"] == there
    found = acted(world, undo_by_admin)
    assert found.before == [{"config": shop, "node": there}]
    assert found.after == [{"config": shop, "node": home}]


def test_a_user_that_comes_with_its_token_is_on_record(world: World) -> None:
    world.run("createtoken", "--user", "ci", "--role", "author")
    made = Act.objects.get(object="user ci")
    assert (made.verb, made.after) == ("make", {"username": "ci", "groups": ["author"]})


def test_a_change_of_more_than_a_chunk_is_recorded_before_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "CHUNK", 0)
    monkeypatch.setattr(origins, "replace", lambda *_, **__: pytest.fail("stopped"))
    with entered(Act.How.ADMIN, "", lambda: "olga"), suppress(pytest.fail.Exception):
        origins.put("admin", "hand", origins.original("admin", "hand"), actor="olga")
    assert Act.objects.latest("pk").object == "config admin:hand"


def test_each_local_route_that_changes_the_map_is_an_entrance() -> None:
    views = {one.callback.view_class for one in _patterns(get_resolver("clusteragent.urls.agents"))}
    changing = {view for view in views if view.token is LOCAL_TOKEN and hasattr(view, "post")}
    assert {view.__name__ for view in changing} == {"Rebalance", "Isolate"}
    assert all(issubclass(view, ActingView) for view in changing)


def _patterns(resolver: Any) -> Iterator[Any]:
    for pattern in resolver.url_patterns:
        yield from [pattern] if isinstance(pattern, URLPattern) else _patterns(pattern)


def test_so_is_what_the_holder_of_the_local_token_does(world: World, settings: Any) -> None:
    settings.ROOT_URLCONF = "clusteragent.urls.agents"
    path, headers = f"/api/v1/clusterchecks/isolate/check/{check_id()}", {"Authorization": f"Bearer {conf.LOCAL_TOKEN}"}
    found = acted(world, lambda _: Client().post(path, b"", content_type="text/plain", headers=headers))
    assert (found.person, found.how, found.verb) == ("local API", "local API", "isolate")
