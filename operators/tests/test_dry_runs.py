"""Whatever changes something can be tried out before: each command with `--dry-run`, each call of the API with `?dry_run=1`."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher
from checks.models import Config, Move, Origin, Plan
from checks.models.orders import Pin
from checks.tests.cast import owners, report, silence
from checks.tests.operators import config
from nodes.models import Node, NodeToken
from operators.models import FailedLogins
from operators.roles import Role
from operators.tests import test_acts
from operators.tests.cast import bearer, user
from operators.tests.test_acts import API, COMMANDS, World, held, node_token, plan_of
from tests.rows import Rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

world = test_acts.world

# What has none, and why.
NO_DRY_RUN = {
    "adopt": "Without --apply it only says what would happen.",
    "exportstate": "It writes a file of its own, and changes nothing here.",
    "createsuperuser": "It is Django's, which asks for the one user that it makes.",
    "POST plans": "A plan is what would follow; nothing moves before it is applied.",
}
# Of each what is tried out in the way that its act is done.
TRIED = [name for name, passes in (COMMANDS | API).items() if callable(passes) and name not in NO_DRY_RUN]
# They read the map as of one moment, in a transaction of their own.
_COMMITTING = pytest.mark.django_db(transaction=True)


class Trial(World):
    """The world, in which each command and each call is tried out first: that must change nothing."""

    tried: list[str]

    def run(self, verb: str, *words: str) -> None:
        before, out = Rows(), io.StringIO()
        call_command(verb, *words, "--as", "olga", "--dry-run", stdout=out)
        assert Rows() == before
        self.tried.append(out.getvalue())
        super().run(verb, *words)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        before = Rows()
        for unclear in ("dry_run", "dry_run=", "dry_run=1&dry_run=0"):
            answer = self.caller.call(method, f"{path}?{unclear}", body)
            assert (answer.status_code, "dry_run" in answer.json()) == (400, True), answer.content
        answer = self.caller.call(method, f"{path}?dry_run=1", body)
        assert answer.status_code == 200, answer.content
        assert Rows() == before
        self.tried.append(answer.content.decode())
        return super().call(method, path, body)


@pytest.fixture
def trial(world: World) -> Trial:
    return Trial(tried=[], **vars(world))


@pytest.mark.parametrize(
    "entrance", [pytest.param(one, marks=_COMMITTING) if one in test_acts._SNAPSHOTS else one for one in TRIED]
)
def test_all_that_changes_something_has_a_dry_run_that_changes_nothing(trial: Trial, entrance: str) -> None:
    """And leaves no act: those are rows, too. What is new is in the table of entrances, or the test of acts fails."""
    (COMMANDS | API)[entrance](trial)  # type: ignore[operator]
    assert trial.tried
    assert all(told.strip() for told in trial.tried)


def test_what_has_no_dry_run_is_there_and_refuses_one(world: World) -> None:
    assert set(NO_DRY_RUN) <= set(COMMANDS | API)
    for verb in NO_DRY_RUN.keys() & COMMANDS.keys():
        with pytest.raises(CommandError, match=r"--dry-run|required"):
            call_command(verb, "--dry-run")
    for call in NO_DRY_RUN.keys() & API.keys():
        method, path = call.split()
        assert world.caller.call(method, f"{path}?dry_run=1", {}).status_code == 400


def told(verb: str, *words: str) -> list[str]:
    """The lines of a dry run, which changes nothing."""
    before, out = Rows(), io.StringIO()
    call_command(verb, *words, "--dry-run", stdout=out)
    assert Rows() == before
    return out.getvalue().splitlines()


def refused(verb: str, *words: str) -> str:
    """Why a command is refused, which its dry run says in the same words."""
    errors = []
    for more in (["--dry-run"], []):
        with pytest.raises(CommandError) as caught:
            call_command(verb, *words, *more, stdout=io.StringIO())
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    return errors[0]


@_COMMITTING
def test_nodes_that_would_expire_are_named_with_what_they_have(world: World) -> None:
    silence("ash")
    lines = told("expirenodes", "--force")
    assert sorted(lines[:3]) == [f"http_check {name}: ash would expire" for name in ("hand", "mail", "shop")]
    assert lines[3] == "3 configs would be taken away"
    assert "http_check shop: nobody → birch" in lines
    # A node gets no more than its share of what was lost for a minute.
    assert lines[-4:-1] == [
        "2 configs would get a node.",
        "1 config would go on dangling.",
        "For a minute no node gets too many of lost nodes at once.",
    ]
    assert owners() == dict.fromkeys(("hand", "mail", "shop"), "ash")
    report("cedar")
    silence("cedar")
    assert "no config: cedar would expire" in told("expirenodes", "--force")
    assert len(Move.objects.filter(reason="expired")) == 0
    call_command("expirenodes", "--force", stdout=io.StringIO())
    assert set(Node.objects.lost().values_list("name", flat=True)) == {"ash", "cedar", "elm"}


@_COMMITTING
def test_more_configs_than_a_step_has_are_tried_out_in_one_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.dispatcher.transaction.CHUNK", 1)
    silence("ash")
    assert "3 configs would be taken away" in told("expirenodes", "--force")


@_COMMITTING
def test_what_would_keep_others_waiting_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusteragent.lib.database.rehearsal.LONGEST", -1.0)
    silence("ash")
    before = Rows()
    with pytest.raises(CommandError, match=r"^no dry run, and nothing was done: there is too much"):
        call_command("expirenodes", "--force", "--dry-run")
    assert Rows() == before


@_COMMITTING
def test_removals_that_would_be_accepted_are_listed(world: World) -> None:
    held(world)
    lines = told("syncconfigs", "--accept-removals")
    assert lines[:2] == ["would be removed: check0.yaml", "would be removed: check1.yaml"]
    assert lines[-1].startswith("would be 0 added, 0 changed, 12 removed")
    (world.folder / "new.yaml").write_text("cluster_check: true\ninstances: [{url: new}]\n")
    assert "would be added: new.yaml" in told("syncconfigs", "--accept-removals")
    assert Origin.objects.filter(source="file").count() == 12


@_COMMITTING
def test_an_import_says_what_would_be_new_and_where(world: World) -> None:
    file = str(world.folder / "state")
    call_command("exportstate", file)
    gone = config("mail")
    dispatcher.unschedule([("file", "mail")])
    assert refused("importstate", file).endswith("give --merge to add what is missing")
    lines = told("importstate", file, "--merge")
    assert lines[0] == "http_check mail: new → ash"
    assert lines[-1].endswith(" would be here then")
    assert not Config.objects.filter(digest=gone.digest).exists()


def test_no_token_is_shown_that_would_not_be_there() -> None:
    assert told("nodetoken", "add", "--note", "runners", "--nodes", "run-*") == [
        "A node token would be made for runners: nodes run-*",
        "Whoever has it gets the configs, with their secrets, of the nodes whose names fit run-*.",
        "It opens from every address.",
        "It never ends.",
    ]
    assert not re.search("nt-[0-9a-f]", str(told("nodetoken", "add", "--note", "x", "--nodes", "*", "--json")))
    assert re.fullmatch(
        r"It would make a token of ci, a new user with the role viewer, until [-\d]+ [:\d]+ UTC\.",
        *told("createtoken", "--user", "ci", "--role", "viewer"),
    )
    assert told("breakglass")[0].startswith("User breakglass would be an admin, and could log in with a new password")


def test_tokens_of_a_file_that_would_be_stored_and_revoked_are_named(tmp_path: Any) -> None:
    file, row = tmp_path / "tokens", node_token()
    file.write_text(f"nt-{'1' * 64}")
    follows = "would be revoked. Node agents that show node token"
    lines = told("nodetoken", "set", "--note", "old", "--nodes", "old-*", "--token-file", str(file))
    assert lines[0] == "nt-11111111… would be stored: old: nodes old-*"
    assert lines[1].startswith(f"{row.key}… {follows}")
    [line] = told("nodetoken", "revoke", row.key)
    assert line.startswith(f"{row.key}… {follows}")
    assert NodeToken.objects.get() == row


def test_a_dry_run_is_refused_what_the_real_run_is() -> None:
    assert "--networks" in refused("nodetoken", "add", "--note", "x", "--nodes", "*", "--networks", "10.1.0.0/99")
    assert "no user nobody" in refused("createtoken", "--user", "nobody")
    assert refused("nodetoken", "revoke", "nt-00000000") == "no node token begins with nt-00000000"


def test_a_node_token_by_the_api_is_judged_and_not_made(world: World) -> None:
    body = {"note": "runners", "pattern": "run-*", "networks": "10.1.0.0/16"}
    answer = world.caller.call("POST", "node-tokens?dry_run=1", body).json()
    assert answer["what"] == "make a node token of runners"
    assert answer["sentences"] == ["It would open nodes run-*, from 10.1.0.0/16."]
    wrong = [
        world.caller.call("POST", f"node-tokens{query}", body | {"networks": "10.1.0.0/99"})
        for query in ("?dry_run=1", "")
    ]
    assert [one.status_code for one in wrong] == [400, 400]
    assert wrong[0].json() == wrong[1].json()
    assert not NodeToken.objects.exists()


def test_failed_logins_that_would_be_forgotten_are_counted() -> None:
    assert told("unlock") == ["No login has failed lately: there is nothing to forget."]
    FailedLogins.objects.add([b"one"])
    assert told("unlock") == ["1 count of failed logins would be forgotten."]


def ordered_by_a_source(world: World) -> None:
    """shop is pinned by the source that sends it."""
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    Pin.objects.update(from_source=True, author="clustercheck shop/db")


def stale(world: World) -> Plan:
    plan = plan_of()
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    return plan


# What is refused: {name: (what makes it so, the command, the call)}; empty where there is none.
Refused = tuple[Callable[[World], Any], Callable[[Any], Sequence[str]], Callable[[Any], Sequence[Any]]]
REFUSED: dict[str, Refused] = {
    "a node that is unknown": (
        lambda w: str(config("shop")),
        lambda title: ("reassign", title, "--to", "oak"),
        lambda _: ("POST", f"configs/{config('shop').pk}/reassign", {"node": "oak"}),
    ),
    "a node that takes nothing": (
        lambda w: Node.objects.filter(name="birch").update(schedulable=False),
        lambda _: ("reassign", str(config("shop")), "--to", "birch"),
        lambda _: ("POST", f"configs/{config('shop').pk}/reassign", {"node": "birch"}),
    ),
    "a pin of a source": (
        ordered_by_a_source,
        lambda _: ("unpin", str(config("shop"))),
        lambda _: ("DELETE", f"pins/{Pin.objects.get().pk}"),
    ),
    "a plan that is stale": (
        stale,
        lambda plan: ("plan", "apply", str(plan.pk)),
        lambda plan: ("POST", f"plans/{plan.pk}/apply"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("entrance", ["command", "API"])
def test_what_is_refused_is_on_record_once_but_not_of_a_dry_run(world: World, what: str, entrance: str) -> None:
    make, command, call = REFUSED[what]
    made = make(world)
    before = Act.objects.count()

    def ask(*, is_dry: bool) -> None:
        if entrance == "command":
            with pytest.raises(CommandError):
                call_command(*command(made), "--as", "olga", *["--dry-run"] * is_dry, stdout=io.StringIO())
            return
        method, path, *body = call(made)
        answer = world.caller.call(method, f"{path}{'?dry_run=1' * is_dry}", *body)
        assert answer.status_code in (400, 409), answer.content

    ask(is_dry=True)
    assert Act.objects.count() == before
    ask(is_dry=False)
    [refusal] = Act.objects.order_by("pk")[before:]
    assert (refusal.verb, refusal.person, refusal.how) == ("refuse", "olga", entrance)


def test_who_may_not_do_it_is_on_record_also_for_a_dry_run(world: World) -> None:
    viewer = bearer(AuthToken.objects.create(user("otto", Role.VIEWER))[1])
    assert viewer.call("POST", "nodes/ash/cordon?dry_run=1").status_code == 403
    last = Act.objects.latest("pk")
    assert (last.verb, last.person, last.object) == ("refuse", "otto", "cordon ash")


def test_a_refusal_of_a_dry_run_is_no_act(world: World) -> None:
    plan, before = plan_of(), Act.objects.count()
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    with pytest.raises(CommandError, match=f"^plan {plan.pk} can't be applied: "):
        call_command("plan", "apply", str(plan.pk), "--dry-run")
    assert Act.objects.count() == before
