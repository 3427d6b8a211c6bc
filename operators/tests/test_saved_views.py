"""Views of lists: what somebody saves under a name, who sees it, and what becomes of it when the list changes."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client

from acts.models import Act
from checks import dispatcher
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, listed
from operators.models import SavedView
from operators.pages.search import MOST_OF_A_KIND
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

NODES = "/admin/nodes/node/"
SAVE = "/admin/operators/savedview/save/"


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """shop of payments, mail and db of nobody, all on ash."""
    report("ash")
    paid = sent("shop", instances=("url: http://shop\ntags: [team:payments]\n",))
    dispatcher.schedule([paid, sent("mail", name="tcp_check", instances=("host: mail\n",)), sent("db")])


def staff(role: Role, name: str = "") -> Client:
    client = Client()
    client.force_login(User.objects.filter(username=name or role).first() or user(name or str(role), role))
    return client


def form(page: Any) -> dict[str, str]:
    """What the list's form to save the view sends."""
    found = dict(re.findall(r'name="(of|query)" value="([^"]*)"', page.content.decode()))
    return {name: value.replace("&amp;", "&") for name, value in found.items()}


def save(client: Client, url: str, name: str = "mine", **more: str) -> Any:
    """Save the list at this URL as it is."""
    return client.post(SAVE, form(client.get(url)) | {"name": name} | more, follow=True)


def views(client: Client, url: str = CONFIGS) -> dict[str, str]:
    """{name: URL} of the views above the list."""
    found = re.findall(
        r'<li><a href="(/admin/operators/savedview/\d+/)"[^>]*>([^<]*)<', client.get(url).content.decode()
    )
    return {name: url for url, name in found}


def test_a_view_brings_back_filters_words_and_order() -> None:
    viewer = staff(Role.VIEWER)
    asked = "?" + urlencode({"q": "team:payments -state:failing", "owner": "assigned", "o": "-load"})
    page = save(viewer, CONFIGS + asked)
    assert "The view mine was saved." in page.content.decode()
    assert 'aria-current="page">mine</a>' in page.content.decode()
    opened = viewer.get(views(viewer)["mine"], follow=True)
    assert opened.request["PATH_INFO"] == CONFIGS
    assert [chip.text for chip in opened.context["cl"].chips] == ["team:payments", "-state:failing", "owner: assigned"]
    assert opened.context["cl"].named["o"] == "-load"
    assert 'aria-current="page">mine' not in viewer.get(CONFIGS).content.decode()


def test_an_order_by_a_columns_number_is_kept_by_its_name() -> None:
    """The operator's list has a column more than the viewer's: the boxes for actions."""
    operator = staff(Role.OPERATOR)
    columns = operator.get(CONFIGS).context["cl"].list_display
    save(operator, f"{CONFIGS}?o=-{columns.index('load')}.{columns.index('since')}", is_shared="on")
    assert SavedView.objects.get().query == {"o": "-load.since"}
    viewer = staff(Role.VIEWER)
    opened = viewer.get(views(viewer)["mine"], follow=True).context["cl"]
    assert opened.queryset.query.order_by[0].descending
    assert opened.named == {"o": "-load.since"}


def test_other_lists_have_views_of_their_own() -> None:
    operator = staff(Role.OPERATOR)
    save(operator, f"{NODES}?state=alive")
    save(operator, "/admin/checks/move/?reason__exact=scheduled&q=ash")
    assert (views(operator), list(views(operator, NODES))) == ({}, ["mine"])
    moves = operator.get(views(operator, "/admin/checks/move/")["mine"], follow=True)
    assert [chip.text for chip in moves.context["cl"].chips] == ["ash", "reason: scheduled"]
    assert form(operator.get(NODES)) == {}, "a list that is not filtered is no view"


def test_ones_own_views_are_nobody_elses() -> None:
    viewer, operator = staff(Role.VIEWER), staff(Role.OPERATOR)
    save(viewer, f"{CONFIGS}?owner=assigned")
    url = views(viewer)["mine"]
    assert (views(operator), operator.get(url).status_code) == ({}, 404)
    assert operator.post(f"{url}delete/").status_code == 404
    assert Client().get(url).headers["Location"].startswith("/admin/login/")


def test_operators_share_views_and_viewers_do_not() -> None:
    viewer, operator = staff(Role.VIEWER), staff(Role.OPERATOR)
    assert "is_shared" not in viewer.get(f"{CONFIGS}?owner=assigned").content.decode()
    assert save(viewer, f"{CONFIGS}?owner=assigned", is_shared="on").status_code == 403
    save(operator, f"{CONFIGS}?owner=assigned", is_shared="on")
    assert " of operator" in viewer.get(CONFIGS).content.decode()
    assert viewer.get(views(viewer)["mine"]).headers["Location"] == f"{CONFIGS}?owner=assigned"


def test_the_owner_or_an_administrator_deletes_a_view() -> None:
    viewer, operator, admin = staff(Role.VIEWER), staff(Role.OPERATOR), staff(Role.ADMIN)
    save(operator, f"{CONFIGS}?owner=assigned", is_shared="on")
    save(operator, f"{CONFIGS}?owner=dangling", "dangling")
    url = views(viewer)["mine"]
    assert "Delete mine" not in viewer.get(CONFIGS).content.decode()
    assert viewer.post(f"{url}delete/").status_code == 403
    assert "Delete mine" in admin.get(CONFIGS).content.decode()
    assert "The view mine was deleted." in admin.post(f"{url}delete/", follow=True).content.decode()
    operator.post(f"{views(operator)['dangling']}delete/")
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"name": "mine"}, "you have a view mine of this list. Delete it first, or choose another name."),
        ({"name": " "}, "name: This field is required."),
        ({"name": "x" * 101}, "name: Ensure this value has at most 100 characters"),
        ({"name": "a\0b"}, "name: Null characters are not allowed."),
        ({"query": ""}, "query: This field is required."),
        ({"query": "colour=red"}, "there is no filter colour."),
        ({"query": "owner=nobody"}, "there is no owner nobody."),
        ({"query": "o=-shape"}, "there is no column shape to sort by."),
        ({"query": "q=colour:red"}, "there is no filter colour:"),
        ({"query": "check=%00"}, "there is a null character in it."),
        ({"query": "q=state:ill"}, "state: there is no ill"),
        ({"name": "postgres://u:hunter2@db"}, "there is what looks like a secret in it"),
        ({"query": "q=%22postgres://u:hunter2@db%22"}, "there is what looks like a secret in it"),
    ],
)
def test_what_can_not_be_saved_is_said_in_a_line(given: dict[str, str], error: str) -> None:
    viewer = staff(Role.VIEWER)
    save(viewer, f"{CONFIGS}?owner=assigned")
    usual = {"of": "checks.config", "query": "owner=assigned", "name": "new"}
    page = viewer.post(SAVE, usual | given, follow=True)
    assert (page.status_code, SavedView.objects.count()) == (200, 1)
    assert f"The view was not saved: {error}" in page.content.decode()


def test_others_may_use_the_same_name_and_lists_that_one_may_not_see_have_no_views() -> None:
    viewer, operator = staff(Role.VIEWER), staff(Role.OPERATOR)
    for client in viewer, operator:
        save(client, f"{CONFIGS}?owner=assigned")
    assert SavedView.objects.count() == 2
    for of in ("auth.user", "acts.act", "operators.savedview", "nonsense", ""):
        answer = viewer.post(SAVE, {"of": of, "query": "q=x", "name": "new"})
        assert answer.status_code == 404, of


def test_nobody_fills_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SavedView, "MOST", 1)
    viewer = staff(Role.VIEWER)
    save(viewer, f"{CONFIGS}?owner=assigned")
    assert "you have 1 views of this list" in save(viewer, f"{CONFIGS}?owner=dangling", "more").content.decode()


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ({"colour": "red", "owner": "assigned"}, "no filter colour"),
        ({"order": "sideways"}, "no order sideways"),
        ({"o": "-shape"}, "no column shape to sort by"),
        ({"q": "colour:red"}, "there is no filter colour:"),
    ],
)
def test_a_view_of_what_the_list_has_no_more_says_so_and_shows_nothing(query: dict[str, str], unknown: str) -> None:
    client = staff(Role.VIEWER)
    owner = User.objects.get(username=Role.VIEWER)
    view = SavedView.objects.create(owner=owner, of="checks.config", name="old", query=query)
    page = client.get(views(client)["old"])
    assert page.status_code == 200
    assert unknown in page.content.decode()
    assert "Delete this view" in page.content.decode()
    assert "shop" not in page.content.decode()
    client.post(f"/admin/operators/savedview/{view.pk}/delete/")
    assert not SavedView.objects.exists()


def test_the_palette_finds_views_by_their_names_and_says_whose_they_are() -> None:
    operator = staff(Role.OPERATOR)
    for number in range(MOST_OF_A_KIND + 2):
        save(operator, f"{CONFIGS}?owner=assigned", f"Night shift {number}", is_shared="on")
    save(operator, f"{CONFIGS}?owner=assigned", "Night, of mine")
    line = staff(Role.ADMIN).get("/admin/search/?s=night").content.decode()
    assert views(operator)["Night shift 0"] in line
    assert line.count("of operator") == MOST_OF_A_KIND
    assert "Night, of mine" not in line
    own = operator.get("/admin/search/?s=night, of").content.decode()
    assert "Night, of mine" in own
    assert "of operator" not in own


def test_the_palette_has_no_views_of_lists_that_one_may_not_see() -> None:
    staff(Role.ADMIN)
    owner = User.objects.get(username=Role.ADMIN)
    SavedView.objects.create(owner=owner, of="auth.user", name="Night", query={}, is_shared=True)
    assert "Night of" not in staff(Role.VIEWER).get("/admin/search/?s=night").content.decode()


@pytest.mark.parametrize("of", ["checks.gone", "gone.config", "contenttypes.contenttype"])
def test_a_view_of_a_list_that_is_gone_is_found_and_deleted(of: str) -> None:
    viewer = staff(Role.VIEWER)
    view = SavedView.objects.create(owner=User.objects.get(username=Role.VIEWER), of=of, name="old", query={"a": "b"})
    url = f"/admin/operators/savedview/{view.pk}/"
    assert url in viewer.get("/admin/search/?s=old").content.decode()
    page = viewer.get(url)
    assert page.status_code == 200
    assert f"there is no list {of}" in page.content.decode()
    assert "Delete this view" in page.content.decode()
    assert viewer.post(f"{url}delete/", follow=True).status_code == 200
    assert not SavedView.objects.exists()
    assert Act.objects.filter(object=f"view old of {of}", verb=Act.Verb.DELETE).exists()


def test_what_is_done_with_views_is_on_record() -> None:
    operator = staff(Role.OPERATOR)
    save(operator, f"{CONFIGS}?owner=assigned", is_shared="on")
    operator.post(f"{views(operator)['mine']}delete/")
    deleted, made = Act.objects.filter(object="view mine of configs")
    assert (made.verb, deleted.verb) == (Act.Verb.MAKE, Act.Verb.DELETE)
    assert made.after == deleted.before == {"owner": "operator", "query": {"owner": "assigned"}, "shared": True}


def test_a_view_goes_with_its_owner_and_finds_what_fits_today() -> None:
    viewer = staff(Role.VIEWER)
    save(viewer, f"{CONFIGS}?q=check:tcp_check")
    url = views(viewer)["mine"]
    assert listed(viewer, viewer.get(url).headers["Location"].removeprefix(CONFIGS)) == {"mail"}
    User.objects.get(username=Role.VIEWER).delete()
    assert not SavedView.objects.exists()
