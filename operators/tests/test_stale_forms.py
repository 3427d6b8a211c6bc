"""A form that was opened before a colleague saved the same row: it overwrites nothing that it did not show."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.test import Client

from checks import dispatcher
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import origins
from checks.tests.cast import report, sent
from checks.tests.operators import config, page_of, saved, superuser
from checks.tests.operators import operator as user_with
from nodes.models import NodeRule
from operators import bounds
from operators.admin.base import row_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CONFIGS = "/admin/checks/config/"
TEXT = "instances:\n  - url: http://one\n    name: shop\n"
Row = Any


def form_of(client: Client, url: str) -> dict[str, Any]:
    """What a browser would send of the form of a row, opened now."""
    page: Any = client.get(url)
    form = page.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in values.items() if value not in (None, False)}
    assert f'name="opened" value="{form.mark}"' in page.content.decode()
    return sent | {"opened": form.mark}


def words(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def sent_confirmed(client: Client, url: str, fields: dict[str, Any]) -> Any:
    """Send a form, and confirm what its page asks, if it asks."""
    answer: Any = client.post(url, fields)
    if answer.context and "question" in answer.context:
        answer = client.post(url, fields | {"seen": answer.context["seen"], "typed": answer.context["word"]})
    return answer


def test_a_config_by_hand_is_not_overwritten_unseen() -> None:
    report("ash")
    olga = superuser()
    saved(olga, f"{CONFIGS}add/", key="shop", check="http_check", yaml=TEXT)
    url = page_of("shop")
    mine = form_of(olga, url)
    otto = Client()
    otto.force_login(User.objects.create_superuser("otto"))
    theirs = form_of(otto, url) | {"yaml": TEXT.replace("one", "two")}
    assert sent_confirmed(otto, url, theirs).status_code == 302
    mine["yaml"] = TEXT.replace("one", "three")
    refused = sent_confirmed(olga, url, mine)
    assert refused.status_code == 200
    told = words(refused)
    assert re.search(r"otto changed it \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC, after this form was opened", told), told
    assert "- - url: http://two + - url: http://three" in told
    assert "http://two" in origins.written("admin", "shop")
    again = mine | {"opened": refused.context["adminform"].form.mark}
    assert again["opened"] != mine["opened"]
    assert sent_confirmed(olga, url, again).status_code == 302
    assert "http://three" in origins.written("admin", "shop")


def test_what_changes_between_the_question_and_its_answer_is_shown_too() -> None:
    olga, rule = superuser(), Rule.objects.create(name="few", check_pattern="dns", max_per_node=5)
    mine = form_of(olga, row_url(rule)) | {"max_per_node": "7"}
    asked: Any = olga.post(row_url(rule), mine)
    assert ("opened", mine["opened"]) in asked.context["hidden"]
    Rule.objects.update(max_per_node=2)
    answer: Any = olga.post(row_url(rule), mine | {"seen": asked.context["seen"]})
    assert "Somebody changed it, after this form was opened" in words(answer)
    assert Rule.objects.get().max_per_node == 2


def test_who_saves_the_same_as_a_colleague_is_not_stopped() -> None:
    olga, rule = superuser(), Rule.objects.create(name="few", check_pattern="dns", max_per_node=5)
    mine = form_of(olga, row_url(rule)) | {"max_per_node": "7"}
    Rule.objects.update(max_per_node=7)
    assert sent_confirmed(olga, row_url(rule), mine).status_code == 302


def test_what_is_mended_after_an_error_overwrites_nothing_unseen_either() -> None:
    olga, rule = superuser(), Rule.objects.create(name="few", check_pattern="dns", max_per_node=5)
    mine = form_of(olga, row_url(rule)) | {"max_per_node": "7"}
    Rule.objects.update(max_per_node=2)
    wrong: Any = olga.post(row_url(rule), mine | {"required": "["})
    form = wrong.context["adminform"].form
    assert set(form.errors) == {"required"}
    told = words(sent_confirmed(olga, row_url(rule), mine | {"opened": form.mark}))
    assert "Max per node: - 2 + 7" in told
    assert Rule.objects.get().max_per_node == 2


def test_a_form_without_its_mark_is_shown_first() -> None:
    olga, rule = superuser(), Rule.objects.create(name="few", check_pattern="dns", max_per_node=5)
    mine = form_of(olga, row_url(rule)) | {"max_per_node": "7"}
    del mine["opened"]
    assert "It is not known when this was opened." in words(sent_confirmed(olga, row_url(rule), mine))
    assert Rule.objects.get().max_per_node == 5


def group() -> Group:
    return Group.objects.create(name="shop")


def waiting(model: type[Model], **order: Any) -> Row:
    """An order that waits for its origin."""
    return model.objects.create(source="file", key="gone", author="otto", **order)  # type: ignore[attr-defined]


KINDS: dict[str, tuple[Callable[[], Row], dict[str, Any], dict[str, Any]]] = {
    # {kind: a row, what a colleague makes of it, what I send}
    "rule": (lambda: Rule.objects.create(name="a", check_pattern="dns"), {"note": "theirs"}, {"note": "mine"}),
    "node rule": (lambda: NodeRule.objects.create(pattern="a*"), {"weight": 2.0}, {"weight": "3"}),
    "user": (lambda: User.objects.create_user("eve"), {"email": "theirs@x.org"}, {"email": "mine@x.org"}),
    "group": (group, {"name": "theirs"}, {"name": "mine"}),
    "pin": (lambda: waiting(Pin, aim="ash"), {"aim": "birch"}, {"aim": "cedar"}),
    "pause": (lambda: waiting(Pause), {"note": "theirs"}, {"note": "mine"}),
    "isolation": (lambda: waiting(Isolation), {"note": "theirs"}, {"note": "mine"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_form_overwrites_what_a_colleague_saved(kind: str) -> None:
    make, theirs, mine = KINDS[kind]
    olga, row = superuser(), make()
    fields = form_of(olga, row_url(row)) | mine
    type(row)._default_manager.filter(pk=row.pk).update(**theirs)
    refused = sent_confirmed(olga, row_url(row), fields)
    assert "after this form was opened. Nothing was saved." in words(refused)
    row.refresh_from_db()
    assert {name: getattr(row, name) for name in theirs} == theirs
    again = fields | {"opened": refused.context["adminform"].form.mark}
    assert sent_confirmed(olga, row_url(row), again).status_code == 302
    row.refresh_from_db()
    assert {name: str(getattr(row, name)).removesuffix(".0") for name in mine} == mine


def test_a_roles_change_of_a_colleague_is_seen() -> None:
    olga, eve = superuser(), User.objects.create_user("eve")
    fields = form_of(olga, row_url(eve)) | {"first_name": "Eve"}
    eve.groups.add(Group.objects.get(name="viewer"))
    assert "Groups: - viewer" in words(sent_confirmed(olga, row_url(eve), fields))
    assert [one.name for one in eve.groups.all()] == ["viewer"]


def test_a_group_s_bound_of_a_colleague_is_seen() -> None:
    olga, row = superuser(), group()
    fields = form_of(olga, row_url(row)) | {"name": "mine"}
    bounds.bind(sources=["admin"], checks=[], group=row)
    assert "Bound to sources: - admin" in words(sent_confirmed(olga, row_url(row), fields))


def test_a_pin_of_a_config_is_not_planned_over_a_newer_one() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("shop")])
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    olga, url = superuser(), row_url(Pin.objects.get())
    fields = form_of(olga, url) | {"note": "mine"}
    Pin.objects.update(aim="birch")
    assert "eve changed it" in words(olga.post(url, fields))


def test_who_may_only_look_has_no_mark() -> None:
    rule = Rule.objects.create(name="few", check_pattern="dns")
    page: Any = user_with("view_rule").get(row_url(rule))
    assert 'name="opened"' not in page.content.decode()
