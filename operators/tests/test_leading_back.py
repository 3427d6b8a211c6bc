"""What is pressed on a row's own page leads back to it, as long as the row is there: by Cancel, and once it is done."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from checks import dispatcher
from checks.models import Config, Source, freezes
from checks.models.orders import Pin, Rule
from checks.tests.cast import report, sent, silence
from checks.tests.operators import CONFIGS, config, opened, page_of, saved, superuser
from nodes.models import Node
from operators.admin.base import row_url
from tests.table import table

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NODES, SOURCES = "/admin/nodes/node/", "/admin/checks/source/"
EVIL = [
    "https://evil.example/admin/",
    "//evil.example/admin/",
    "/admin\\@evil.example",
    "/api/operator/v1/",
    "x",
    "\x00",
]


@pytest.fixture
def client() -> Client:
    """shop runs on ash; birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop")])
    report("birch")
    return superuser()


def node(name: str, **how: Any) -> str:
    """The page of a node, which is cordoned if `how` says so."""
    Node.objects.filter(name=name).cordon(**how)
    return row_url(Node.objects.get(name=name))


def pinned() -> str:
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    return page_of("shop")


def isolated() -> str:
    dispatcher.isolate([config("shop").pk], actor="eve")
    return page_of("shop")


def holding() -> str:
    source = Source.objects.create(name="kubernetes", state={"phase": "away"}, held_removals=["one"])
    return row_url(source)


def frozen() -> str:
    return row_url(freezes.freeze(actor="eve"))


def pressed(client: Client, page: str, action: str) -> tuple[str, dict[str, str]]:
    """Where the form with the buttons of a row's page is sent, and what it sends when one is pressed."""
    shown = client.get(page).content.decode()
    assert f'value="{action}"' in shown
    [(url, form)] = re.findall(r'<form method="post" action="([^"]+)"([^>]*>.*?)</form>', shown, re.DOTALL)[:1]
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    return url, {"action": action} | {name: unescape(value) for name, value in fields}


ASKED: dict[str, Callable[[], str]] = {
    "unpin": pinned,
    "release": isolated,
    "cordon": lambda: node("ash", schedulable=True),
    "uncordon": lambda: node("ash", draining=True),
    "accept_removals": holding,
    "thaw": frozen,
}


@table(("action", "page_of_row"), ASKED.items())
def test_cancel_and_doing_it_lead_back_to_the_row(client: Client, action: str, page_of_row: Callable[[], str]) -> None:
    page = page_of_row()
    url, fields = pressed(client, page, action)
    asked: Any = client.post(url, fields)
    assert asked.context["back"] == page
    done: Any = client.post(url, fields | {"seen": asked.context["seen"], "typed": asked.context["word"]})
    assert (done.status_code, done.url) == (302, page)
    assert client.get(page).status_code == 200


def test_what_needs_no_question_leads_back_too(client: Client) -> None:
    page = row_url(Source.objects.create(name="kubernetes", state={"phase": "following"}))
    url, fields = SOURCES, {"action": "scan_now", "_selected_action": page.split("/")[-3], "back_to": page}
    assert client.post(url, fields).url == page  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", ["pin", "pause", "reassign"])
def test_the_form_of_an_order_leads_back_by_cancel(client: Client, action: str) -> None:
    url, fields = pressed(client, page_of("shop"), action)
    asked: Any = client.post(url, fields)
    assert asked.context["back"] == page_of("shop")
    again: Any = client.post(url, dict(asked.context["form"].data) | fields | {"asked": "yes", "until": "never"})
    assert again.context["back"] == page_of("shop"), "it came back with an error"


def test_the_list_follows_where_the_row_is_gone(client: Client) -> None:
    silence("birch")
    dispatcher.expire_nodes(force=True)
    url, fields = pressed(client, row_url(Node.objects.get(name="birch")), "forget")
    asked: Any = client.post(url, fields)
    done: Any = client.post(url, fields | {"seen": asked.context["seen"]})
    assert done.url == NODES
    assert not Node.objects.filter(name="birch").exists()


def test_what_was_chosen_in_a_list_leads_back_to_the_list(client: Client) -> None:
    pinned()
    fields = {"action": "unpin", "_selected_action": config("shop").pk}
    asked: Any = client.post(CONFIGS, fields)
    assert asked.context["back"] == CONFIGS
    assert client.post(f"{CONFIGS}?q=shop", fields | {"seen": asked.context["seen"]}).url == f"{CONFIGS}?q=shop"  # type: ignore[attr-defined]


@table("url", EVIL)
def test_it_leads_nowhere_else(client: Client, url: str) -> None:
    pinned()
    fields = {"action": "unpin", "_selected_action": config("shop").pk, "back_to": url}
    asked: Any = client.post(CONFIGS, fields)
    assert asked.context["back"] == CONFIGS
    done: Any = client.post(CONFIGS, fields | {"seen": asked.context["seen"]})
    assert done.url == CONFIGS


def test_cancelling_a_deletion_or_a_change_of_a_rule_leads_back_to_its_page(client: Client) -> None:
    pinned()
    rule = Rule.objects.create(name="b", check_pattern="dns")
    for row in (Pin.objects.get(), rule):
        asked: Any = client.post(row_url(row).replace("/change/", "/delete/"))
        assert asked.context["back"] == row_url(row)
    fields = {
        "name": "b",
        "check_pattern": "dns",
        "source_pattern": "*",
        "required": "{}",
        "forbidden": "{}",
        "note": "x",
    }
    asked = client.post(row_url(rule), opened(client, row_url(rule)) | fields)
    assert asked.context["back"] == row_url(rule)


def reopened(client: Client, url: str, fields: dict[str, Any]) -> Any:
    """The form after *Cancel* on the page that asks about it, as a browser sends it."""
    asked: Any = client.post(url, fields)
    assert asked.context["reopen"]
    kept = dict(asked.context["hidden"]) | {"post": "yes", "seen": asked.context["seen"], asked.context["reopen"]: "1"}
    page: Any = client.post(url, kept)
    assert page.status_code == 200
    return page.context["adminform"].form


def test_cancelling_what_was_asked_about_a_text_leads_to_the_form_with_the_text(client: Client) -> None:
    text = "instances:\n  - ulr: http://one\n"
    fields = {"key": "typed", "check": "http_check", "yaml": text, "_save": "Save"}
    form = reopened(client, f"{CONFIGS}add/", fields)
    assert [form[name].value() for name in ("key", "check", "yaml")] == ["typed", "http_check", text]
    assert not form.errors
    assert not Config.objects.filter(origins__source="admin").exists()


def test_the_form_of_a_stored_text_stays_what_it_was_opened_as(client: Client) -> None:
    saved(client, f"{CONFIGS}add/", key="hand", check="http_check", yaml="instances:\n  - url: http://one\n")
    url, mark = page_of("hand"), opened(client, page_of("hand"))
    form = reopened(client, url, mark | {"check": "http_check", "yaml": "instances:\n  - ulr: http://two\n"})
    assert "ulr: http://two" in form["yaml"].value()
    assert form.mark == mark["opened"]


def test_cancelling_a_rule_keeps_what_was_typed(client: Client) -> None:
    rule = Rule.objects.create(name="b", check_pattern="dns", spread=True)
    given = {"name": "b", "check_pattern": "dns", "source_pattern": "*", "required": '{"zone": "a"}', "forbidden": "{}"}
    form = reopened(client, row_url(rule), opened(client, row_url(rule)) | given)
    assert form["required"].value() == '{"zone": "a"}'
    assert form["spread"].value() is False
    assert "zone" not in Rule.objects.get().required
