"""The page that groups configs by check, team or source."""

import json
import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checks import dispatcher
from checks.models import Config, Cost
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, listed, superuser
from clusteragent.lib import clock
from nodes.models import Node
from operators.pages import groups

pytestmark = pytest.mark.django_db

Row = tuple[str, int, int, int, int, int, float | None]


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
    return [(row.name, *row.numbers) for row in client.get("/admin/groups/", query).context["rows"]]


def test_each_way_groups_all_configs(client: Client) -> None:
    assert rows(client) == [("http_check", 2, 1, 1, 0, 0, 0.5), ("postgres", 1, 0, 0, 0, 1, None)]
    assert rows(client, by="team") == [("payments", 2, 1, 1, 0, 0, 0.5), ("", 1, 0, 0, 0, 1, None)]
    assert rows(client, by="source") == [("file", 3, 1, 1, 0, 1, 0.5), ("by hand", 1, 0, 0, 0, 1, None)]
    assert rows(client, by="nonsense") == rows(client)


def test_the_bars_query_narrows_them(client: Client) -> None:
    assert rows(client, q="team:payments -state:failing") == [("http_check", 1, 1, 0, 0, 0, 0.25)]
    page = client.get("/admin/groups/", {"q": "colour:red"}).content.decode()
    assert "Nothing is shown: there is no filter colour:" in page
    assert "There is no such config." in client.get("/admin/groups/", {"q": "check:none"}).content.decode()


def test_a_group_leads_to_its_configs_and_to_those_that_fail(client: Client) -> None:
    page = client.get("/admin/groups/", {"by": "team", "q": "http"}).content.decode()
    [all_of_them] = re.findall(r'href="([^"]*)">payments</a>', page)
    running, failing = re.findall(r'href="([^"]*)">1</a>', page)
    assert listed(client, all_of_them.removeprefix(CONFIGS)) == {"shop", "pay"}
    assert listed(client, running.removeprefix(CONFIGS)) == {"pay"}
    assert listed(client, failing.removeprefix(CONFIGS)) == {"shop"}


def test_a_group_tells_what_is_paused_and_leads_to_it(client: Client) -> None:
    dispatcher.pause([config("pay").pk], actor="olga")
    assert rows(client, check="http_check")[0] == ("http_check", 2, 0, 1, 1, 0, 0.5)
    page = client.get("/admin/groups/").content.decode()
    [paused] = re.findall(r'href="([^"]*state%3Apaused)">1</a>', page)
    assert listed(client, paused.removeprefix(CONFIGS)) == {"pay"}


def test_a_group_has_its_newest_error_without_secrets(client: Client) -> None:
    Trouble.objects.filter(kind="failing").update(last_error="no route", since=clock.now() - timedelta(hours=1))
    pay = Trouble.objects.create(config=config("pay"), kind="failing", last_error="login with password=hunter22 failed")
    for by in ("check", "team", "source"):
        page = client.get("/admin/groups/", {"by": by}).content.decode()
        assert "login with password=" in page
        assert "no route" not in page
        assert "hunter22" not in page
    assert "no route" in client.get("/admin/groups/", {"q": "check:http_check shop"}).content.decode()
    pay.delete()
    assert "no route" in client.get("/admin/groups/").content.decode()


def test_a_groups_newest_error_names_the_instance_of_several(client: Client) -> None:
    Node.objects.cordon(schedulable=True)
    dispatcher.schedule([sent("dbs", name="mysql", instances=("name: one\n", "name: two\n", "name: three\n"))])
    second = config("dbs").instances.order_by("pk")[1]
    Trouble.objects.create(config=config("dbs"), kind="failing", check_id=second.check_id, last_error="no route")
    Trouble.objects.filter(config=config("shop"), kind="failing").update(
        check_id=config("shop").instances.get().check_id, last_error="refused"
    )
    page = client.get("/admin/groups/").content.decode()
    assert ">two: no route</span>" in page
    assert ">refused</span>" in page


@pytest.mark.parametrize("team", ["a b", "a: b", 'a "b"', "it's: #1", "x" * 300, "many words " * 12 + "end"])
def test_a_team_in_quotes_is_called_by_its_name_and_found(client: Client, team: str) -> None:
    text = f"url: http://odd\ntags: [{json.dumps(f'team:{team}')}]\n"
    dispatcher.schedule([sent("odd", instances=(text,))])
    [row] = [row for row in client.get("/admin/groups/?by=team").context["rows"] if row.name == team]
    assert listed(client, row.url.removeprefix(CONFIGS)) == {"odd"}


def test_a_name_that_no_filter_takes_leads_nowhere(client: Client) -> None:
    text = f"url: http://odd\ntags: [team:{'x' * 600}, team:b]\n"
    dispatcher.schedule([sent("odd", instances=(text,))])
    [row] = [row for row in client.get("/admin/groups/?by=team").context["rows"] if row.name == "x" * 600]
    assert not row.url


def test_of_a_text_that_another_version_made_the_team_is_not_known(client: Client) -> None:
    Config.objects.filter(pk=config("pay").pk).update(patched_with="older.1")
    found = {row.name: (row.numbers.configs, row.url) for row in client.get("/admin/groups/?by=team").context["rows"]}
    assert found[groups.UNKNOWN] == (1, "")
    assert (found["payments"][0], found[""][0]) == (1, 1)


def test_a_name_that_shows_a_secret_is_hidden_and_leads_nowhere(client: Client) -> None:
    Config.objects.filter(pk=config("pay").pk).update(name="redis://u:hunter22@cache")
    page = client.get("/admin/groups/").content.decode()
    assert "redis://" in page
    assert "hunter22" not in page


def test_the_list_leads_to_its_groups_and_they_have_a_total(client: Client) -> None:
    page = client.get(CONFIGS + "?" + urlencode({"q": "team:payments"})).content.decode()
    assert 'href="/admin/groups/?by=team&amp;q=team%3Apayments"' in page
    assert client.get("/admin/groups/").context["total"] == (3, 1, 1, 0, 1, 0.5)
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
