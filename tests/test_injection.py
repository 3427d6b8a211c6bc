"""Injection: names and texts of others have no effect in pages, spreadsheets and terminals."""

import csv
import io
import logging
from html.parser import HTMLParser

import pytest
import structlog
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from checks.tests.cast import report
from checks.wire.yamlnodes import one_line
from clusteragent.lib import conf, logs
from tests import world
from tests.walk import Page, Visitor

pytestmark = pytest.mark.django_db

MARKUP = "'\"><b pwned></script></textarea><b pwned>"
FORMULAS = ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "\r=1")
ESCAPE = "\x1b[2J\x9b31m\r\n2026-01-01T00:00:00Z [error] forged"


def furnished(text: str, node: str = "ash") -> User:
    """An operator of a cluster in which every name and text of others contains this text."""
    actor = User.objects.create_superuser(text[:150])
    instance = f"name: {one_line(text)}\nurl: {one_line(text)}\n"
    report(node)
    world.furnish(lambda place: f"{text} {place}", actor.username, instance, name=text)
    return actor


class Obedient(HTMLParser):
    """A parser that finds the element that the text tries to inject."""

    obeys = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.obeys |= any(name == "pwned" for name, _ in attrs)


def obeys(page: Page) -> bool:
    parser = Obedient()
    parser.feed(page.text)
    return parser.obeys


def test_the_test_would_see_it() -> None:
    assert obeys(Page("/", 200, "text/html", f"<p title='{MARKUP}'>"))


def test_no_page_obeys_a_name_or_fails_on_it(warm: None) -> None:
    visitor = Visitor(furnished(MARKUP, node="'\"><b pwned>"))
    pages = [*visitor.pages(), *visitor.actions()]
    assert not {page.url for page in pages if page.status >= 500}
    html = [page for page in pages if page.content_type.startswith("text/html")]
    assert sum("pwned" in page.text for page in html) > 20
    assert not {page.url for page in html if obeys(page)}


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_spreadsheet_works_out_a_name(warm: None, formula: str) -> None:
    client = Client()
    client.force_login(furnished(formula))
    answer = client.get("/admin/changes/?last=1h&format=csv")
    rows = list(csv.reader(io.StringIO(answer.getvalue().decode(), newline="")))
    assert any(formula.strip() in cell for row in rows for cell in row)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_no_terminal_obeys_a_name(warm: None, capsys: pytest.CaptureFixture[str]) -> None:
    world.furnish(lambda place: f"{ESCAPE} {place}", "olga", "url: http://one\n")
    call_command("clusterchecks")
    printed = capsys.readouterr().out
    assert "forged" in printed
    assert not set(printed) & {"\x1b", "\x9b", "\r"}
    assert "\n2026-01-01" not in printed


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_line_of_the_log_is_forged(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "LOG_FORMAT", form)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._formatter())
    logger = logging.getLogger("theirs")
    logger.addHandler(handler)
    logger.warning("no node %s", ESCAPE)
    structlog.get_logger("theirs").warning("odd", node=ESCAPE, rows=[ESCAPE])
    logger.removeHandler(handler)
    written = stream.getvalue()
    assert written.count("forged") == 3
    assert len(written.splitlines()) == 2
    assert not set(written) & {"\x1b", "\x9b", "\r"}
