"""Pages of the admin link to the documentation where there is one, and nowhere else."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing
from operators import documentation
from operators.pages import documentation as documentation_page

pytestmark = pytest.mark.django_db
ELSEWHERE = "https://docs.example.com/agent"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    Hearing.objects.update(last_pass=ago(timedelta(seconds=11)))
    return client


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no site, whatever was built in this checkout."""
    monkeypatch.setattr(documentation, "_own", lambda: "")


def test_without_documentation_links_lead_to_where_it_is(client: Client) -> None:
    for url in ("/admin/", "/admin/nodes/node/"):
        page = client.get(url).content.decode()
        assert 'href="/admin/documentation/troubleshooting/#no_pass"' in page
        assert 'href="/admin/documentation/index/"' in page
    told = client.get("/admin/documentation/elsewhere/").content.decode()
    assert all(word in told for word in ("docs/elsewhere.md", "make docs", "CLUSTERAGENT_DOCS_URL"))
    assert Client().get("/admin/documentation/troubleshooting/").status_code == 302


def test_a_checkout_shows_the_text_of_a_page_with_its_anchors(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    told = client.get("/admin/documentation/troubleshooting/").content.decode()
    assert re.search(r'<pre id="no_pass"[^>]*>### no_pass\n', told)
    assert "<script" not in told.partition('id="no_pass"')[2].partition("</pre>")[0]
    assert "docs/howto/drain.md" in client.get("/admin/documentation/howto/drain/").content.decode()
    monkeypatch.setattr(documentation_page, "IS_CHECKOUT", False)
    assert "built without it" in client.get("/admin/documentation/troubleshooting/").content.decode()


def test_a_link_from_before_the_documentation_came_leads_to_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "DOCS_URL", ELSEWHERE)
    answer = client.get("/admin/documentation/troubleshooting/")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{ELSEWHERE}/troubleshooting.html")


@pytest.mark.parametrize("url", ["/admin/", "/admin/nodes/node/"])
@pytest.mark.parametrize("end", ["", "/"])
def test_alerts_lead_to_what_to_do(url: str, end: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "DOCS_URL", ELSEWHERE + end)
    page = client.get(url).content.decode()
    assert f'href="{ELSEWHERE}/troubleshooting.html#no_pass"' in page
    assert f'href="{ELSEWHERE}/index.html"' in page


def test_the_installation_s_own_site_is_linked_where_none_is_named(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documentation, "_own", lambda: "/static/docs/")
    assert 'href="/static/docs/troubleshooting.html#no_pass"' in client.get("/admin/").content.decode()


def test_the_site_is_found_where_it_was_built(
    tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    documentation._own.cache_clear()
    found = {"docs/index.html": tmp_path / "index.html"}
    monkeypatch.setattr(documentation.finders, "find", found.get)
    assert documentation.page("operations", "who-may-run-what") == "/static/docs/operations.html#who-may-run-what"
    documentation._own.cache_clear()
