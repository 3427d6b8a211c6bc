"""The page that groups configs by check, team or source."""

import re
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checks import dispatcher
from checks.models import Cost
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, listed, superuser
from nodes.models import Node
from operators.pages import groups

pytestmark = pytest.mark.django_db

Row = tuple[str, int, int, int, float | None]


@pytest.fixture
def client(warm: None) -> Client:
    """Two http_checks of payments, of which one fails, and a postgres of nobody, which dangles and two sources send."""
    report("ash")
    paid = "url: http://{}\ntags: [team:payments]\n"
    dispatcher.schedule([sent(key, instances=(paid.format(key),)) for key in ("shop", "pay")])
    Trouble.objects.create(config=config("shop"), kind="failing")
    Trouble.objects.create(config=config("shop"), kind="slow")
    Cost.objects.bulk_create(Cost(config=config(key), workers_needed=0.25) for key in ("shop", "pay"))
    Node.objects.cordon()
    db = "host: db\n"
    dispatcher.schedule([sent(key, name="postgres", source=source, instances=(db,)) for key, source in
                         (("db", "admin"), ("db2", "admin"), ("db", "file"))])  # fmt: skip
    return superuser()


def rows(client: Client, **query: str) -> list[Row]:
    context = client.get("/admin/groups/", query).context
    return [(name, row["configs"], row["failing"], row["dangling"], row["load"]) for name, row, *_ in context["rows"]]


def test_each_way_groups_all_configs(client: Client) -> None:
    assert rows(client) == [("http_check", 2, 1, 0, 0.5), ("postgres", 1, 0, 1, None)]
    assert rows(client, by="team") == [("payments", 2, 1, 0, 0.5), ("", 1, 0, 1, None)]
    assert rows(client, by="source") == [("file", 3, 1, 1, 0.5), ("admin", 1, 0, 1, None)]
    assert rows(client, by="nonsense") == rows(client)


def test_the_bars_query_narrows_them(client: Client) -> None:
    assert rows(client, q="team:payments -state:failing") == [("http_check", 1, 0, 0, 0.25)]
    page = client.get("/admin/groups/", {"q": "colour:red"}).content.decode()
    assert "Nothing is shown: there is no filter colour:" in page
    assert "There is no such config." in client.get("/admin/groups/", {"q": "check:none"}).content.decode()


def test_a_group_leads_to_its_configs_and_to_those_that_fail(client: Client) -> None:
    page = client.get("/admin/groups/", {"by": "team", "q": "http"}).content.decode()
    [all_of_them] = re.findall(r'href="([^"]*)">payments</a>', page)
    [failing] = re.findall(r'href="([^"]*)">1</a>', page)
    assert listed(client, all_of_them.removeprefix(CONFIGS)) == {"shop", "pay"}
    assert listed(client, failing.removeprefix(CONFIGS)) == {"shop"}


def test_the_list_leads_to_its_groups_and_they_have_a_total(client: Client) -> None:
    page = client.get(CONFIGS + "?" + urlencode({"q": "team:payments"})).content.decode()
    assert 'href="/admin/groups/?by=team&amp;q=team%3Apayments"' in page
    assert client.get("/admin/groups/").context["total"] == {"configs": 3, "failing": 1, "dangling": 1, "load": 0.5}
    assert client.get("/admin/groups/?by=source").context["total"] is None


def test_only_the_largest_groups_are_shown(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST", 1)
    assert [name for name, *_ in rows(client)] == ["http_check"]
    assert "The 1 largest groups." in client.get("/admin/groups/").content.decode()


def test_groups_are_for_those_who_see_configs(client: Client) -> None:
    stranger = Client()
    stranger.force_login(User.objects.create_user("eve", is_staff=True))
    assert stranger.get("/admin/groups/").status_code == 403
    assert Client().get("/admin/groups/").headers["Location"].startswith("/admin/login/")
