"""Rules in the admin: what a change would do is shown first, and only what was shown is done."""

import re
from typing import Any

import pytest
from django.test import Client

from checks import dispatcher
from checks.explain import ruling
from checks.models import Config
from checks.models.orders import Rule
from checks.tests.balance import furnish
from checks.tests.cast import owners, sent
from checks.tests.operators import beside_an_idle_node, config, confirmed, superuser
from nodes.models import Node, NodeRule

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

RULES, NODE_RULES = "/admin/checks/rule/", "/admin/nodes/noderule/"
EVERYWHERE = {
    "name": "gpu only",
    "check_pattern": "*",
    "source_pattern": "*",
    "required": '{"gpu": "yes"}',
    "forbidden": "{}",
}


@pytest.fixture
def client() -> Client:
    """shop, mail and db run on ash, birch is idle."""
    return beside_an_idle_node()


def shown(client: Client, url: str, **fields: Any) -> str:
    return " ".join(client.post(url, fields).content.decode().split())


def test_a_rule_that_no_node_satisfies_says_in_red_that_all_would_run_nowhere(client: Client) -> None:
    page = shown(client, f"{RULES}add/", **EVERYWHERE)
    assert "3 configs would run nowhere." in page
    assert "text-red-700" in page
    assert "rule gpu only: it requires gpu=yes" in page
    assert not Rule.objects.exists()


def test_it_is_saved_only_when_its_name_was_typed(client: Client) -> None:
    seen = client.post(f"{RULES}add/", EVERYWHERE).context["seen"]
    assert "type gpu only to confirm it" in shown(client, f"{RULES}add/", **EVERYWHERE, seen=seen, typed="gpu")
    assert not Rule.objects.exists()
    client.post(f"{RULES}add/", EVERYWHERE | {"seen": seen, "typed": "gpu only"})
    assert Rule.objects.get().author == "olga"


def test_a_form_does_not_cover_all_checks_by_itself(client: Client) -> None:
    for url, field in ((RULES, "check_pattern"), (NODE_RULES, "pattern")):
        form = client.get(f"{url}add/").context["adminform"].form
        assert form[field].value() == ""
        assert form.fields[field].required
    shown(client, f"{RULES}add/", **EVERYWHERE | {"check_pattern": ""}, seen="x")
    assert not Rule.objects.exists()


def test_what_it_shows_is_what_the_passes_do(client: Client) -> None:
    Node.objects.filter(name="birch").update(labels={"gpu": "yes"})
    rule = EVERYWHERE | {"check_pattern": "postgres"}
    page = client.post(f"{RULES}add/", rule)
    assert "1 config would move." in page.content.decode()
    assert "within about a minute" in page.content.decode()
    confirmed(client, f"{RULES}add/", **rule)
    dispatcher.move_misplaced()
    assert owners() == {"shop": "ash", "mail": "ash", "db": "birch"}


def test_what_changed_since_refuses_all_of_it(client: Client) -> None:
    rule = EVERYWHERE | {"check_pattern": "postgres"}
    seen = client.post(f"{RULES}add/", rule).context["seen"]
    dispatcher.schedule([sent("other", name="postgres")])
    page = shown(client, f"{RULES}add/", **rule, seen=seen, typed="gpu only")
    assert "Nothing was done, since something changed" in page
    assert "2 configs would run nowhere." in page
    assert not Rule.objects.exists()


def test_a_config_that_is_gone_since_is_no_reason_to_refuse(client: Client) -> None:
    seen = client.post(f"{RULES}add/", EVERYWHERE).context["seen"]
    Config.objects.get(name="postgres").delete()
    assert "type gpu only to confirm it" in shown(client, f"{RULES}add/", **EVERYWHERE, seen=seen, typed="gpu")
    client.post(f"{RULES}add/", EVERYWHERE | {"seen": seen, "typed": "gpu only"})
    assert Rule.objects.exists()


def test_a_node_rule_is_confirmed_by_its_pattern_and_several_by_how_many(client: Client) -> None:
    rule = NodeRule.objects.create(pattern="ash", labels={"zone": "a"})
    url = f"{NODE_RULES}{rule.pk}/delete/"
    NodeRule.objects.apply()
    Rule.objects.create(name="near", check_pattern="*", required={"zone": "a"})
    page = client.get(url)
    assert page.context["word"] == "ash"
    both = [rule.pk, NodeRule.objects.create(pattern="b").pk]
    several = client.post(NODE_RULES, {"action": "delete_selected", "_selected_action": both})
    assert several.context["word"] == "2 rules"
    page = client.get(url)
    Config.objects.get(name="postgres").delete()
    assert "type ash to confirm it" in shown(client, url, seen=page.context["seen"], typed="3")
    client.post(url, {"post": "yes", "seen": page.context["seen"], "typed": "ash"})
    assert not NodeRule.objects.filter(pk=rule.pk).exists()


def test_more_moves_than_were_shown_are_shown_first(client: Client) -> None:
    """A page that said that nothing moves is no consent to moves."""
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    rule = EVERYWHERE | {"name": "in a", "required": '{"zone": "a"}'}
    asked = client.post(f"{RULES}add/", rule)
    assert "Nothing moves." in asked.content.decode()
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    later = client.post(f"{RULES}add/", rule | {"seen": asked.context["seen"]})
    assert "1 config would move." in later.content.decode()
    assert not Rule.objects.exists()
    # Fewer are no reason to ask again.
    dispatcher.reassign([config("shop").pk], "ash", actor="eve")
    client.post(f"{RULES}add/", rule | {"seen": later.context["seen"]})
    assert Rule.objects.exists()


@pytest.mark.parametrize("seen", ["x", "-", "x-3", "-3", "{rules}-", "{rules}-1", "{rules}-x", "{rules}--3"])
def test_what_no_page_showed_confirms_nothing(client: Client, seen: str) -> None:
    rules = client.post(f"{RULES}add/", EVERYWHERE).context["seen"].partition("-")[0]
    page = shown(client, f"{RULES}add/", **EVERYWHERE, seen=seen.format(rules=rules), typed="gpu only")
    assert "Nothing was done, since something changed" in page
    assert not Rule.objects.exists()


def test_deleting_a_node_rule_says_what_would_run_nowhere_without_its_labels(client: Client) -> None:
    rule = NodeRule.objects.create(pattern="ash", labels={"zone": "a"})
    NodeRule.objects.apply()
    Rule.objects.create(name="near", check_pattern="postgres", required={"zone": "a"})
    for page in (
        client.get(f"{NODE_RULES}{rule.pk}/delete/").content.decode(),
        shown(client, NODE_RULES, action="delete_selected", _selected_action=[rule.pk]),
    ):
        assert "1 config would run nowhere." in page
        assert "1 node changed." in page
        # A phone shows the last part of the heading alone.
        assert re.search(r"<h1.*>ash</a>\s*</h1>", page, re.DOTALL)
    assert NodeRule.objects.exists()


def test_a_rule_that_crowds_a_node_says_how_much_it_raises_the_highest_load() -> None:
    furnish(ash=[0.4, 0.4], birch=[0.4, 0.4])
    Node.objects.filter(name="ash").update(labels={"gpu": "yes"})
    page = shown(superuser(), f"{RULES}add/", **EVERYWHERE)
    assert "It raises the highest load from 20 % to 40 %." in page


def test_what_runs_nowhere_now_and_would_get_a_node_is_counted(client: Client) -> None:
    rule = Rule.objects.create(name="gpu", check_pattern="postgres", required={"gpu": "yes"})
    dispatcher.move_misplaced()
    assert len(ruling.effect_of(Rule, deleted=[rule.pk]).after.found) == 1
    assert "1 config without a node would get one." in client.get(f"{RULES}{rule.pk}/delete/").content.decode()


def test_what_moves_anyway_is_no_effect_of_a_rule(client: Client) -> None:
    """Two configs leave a node that may not have them, whatever becomes of another rule."""
    NodeRule.objects.create(pattern="birch", labels={"zone": "b"})
    NodeRule.objects.apply()
    Rule.objects.create(name="web in b", check_pattern="http_check", required={"zone": "b"})
    new = Rule(name="db in b", check_pattern="postgres", required={"zone": "b"})
    after = ruling.effect_of(Rule, saved=new).after
    assert [one.check for one in after.moves] == ["postgres"]
    assert (after.anyway, after.staying, len(after.lost)) == (2, 0, 0)
    db = EVERYWHERE | {"name": "db in b", "check_pattern": "postgres", "required": '{"zone": "b"}'}
    page = shown(client, f"{RULES}add/", **db)
    assert "1 config would move." in page
    assert "About to move anyway: 2 configs." in page
    assert ruling.effect_of(Rule, deleted=[Rule.objects.get().pk]).after.staying == 2


def test_a_node_rule_that_leaves_no_room_is_made_only_by_typing_its_pattern(client: Client) -> None:
    fields = {"pattern": "*", "max_configs": "0", "labels": "{}", "weight": "1"}
    page = shown(client, f"{NODE_RULES}add/", **fields)
    assert "No node would have room for one more config" in page
    assert "Type <strong>*</strong>" in page
    seen = client.post(f"{NODE_RULES}add/", fields).context["seen"]
    assert "type * to confirm it" in shown(client, f"{NODE_RULES}add/", **fields, seen=seen, typed="2")
    assert not NodeRule.objects.exists()
    confirmed(client, f"{NODE_RULES}add/", **fields)
    assert set(Node.objects.values_list("max_configs", flat=True)) == {0}
    # What has no room already is not left without it by a rule.
    assert "No node would have room" not in shown(client, f"{NODE_RULES}add/", **fields | {"pattern": "ash"})


def test_a_rule_of_no_check_says_so(client: Client) -> None:
    page = shown(client, f"{RULES}add/", **EVERYWHERE | {"check_pattern": "htp_check"})
    assert "No config is of the checks htp_check now." in page
    assert "No config is of" not in shown(client, f"{RULES}add/", **EVERYWHERE)


def test_what_a_deleted_rule_kept_away_is_said_to_be_free(client: Client) -> None:
    rule = Rule.objects.create(name="zones", required={"zone": "a"})
    assert "What it kept away may go there" in confirmed(client, f"{RULES}{rule.pk}/delete/", post="yes")


def test_more_than_a_rule_allows_stays_and_both_pages_say_so(client: Client) -> None:
    fields = EVERYWHERE | {"name": "one each", "required": "{}", "max_per_node": "1"}
    page = shown(client, f"{RULES}add/", **fields)
    assert "Nothing moves." in page
    assert "1 node above the most that it allows: none goes for that, and no more is added." in page
    saved = confirmed(client, f"{RULES}add/", **fields)
    assert "A node that has more than 1 of them keeps them, and gets no more." in saved
    assert "move within seconds" not in saved
    assert owners() == {"shop": "ash", "mail": "ash", "db": "ash"}


def test_more_than_a_node_rule_allows_stays(client: Client) -> None:
    page = shown(client, f"{NODE_RULES}add/", pattern="ash", labels="{}", max_configs="1")
    assert "1 node above the most that it allows" in page
