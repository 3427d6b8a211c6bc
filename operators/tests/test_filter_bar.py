"""The bar above the lists of configs and nodes, what it goes on with, and the chips of what filters a list."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.models import Config
from checks.models.tags import own_and_common, tags_in
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, listed, page_of, superuser
from clusteragent.lib import conf
from nodes.models import Node
from operators import queries
from operators.queries import CONFIG_WORDS, NODE_WORDS, Word
from operators.roles import Role
from operators.tests.cast import having

pytestmark = pytest.mark.django_db

NODES = "/admin/nodes/node/"


@pytest.fixture
def client(warm: None) -> Client:
    """shop and mail run on ash, shop fails and mail is pinned; db, of another source, dangles."""
    report("ash")
    prod = "url: http://shop\ntags: [env:prod, 'team:payments', \"zone: a\"]\n"
    dispatcher.schedule([sent("shop", instances=(prod,))])
    dispatcher.schedule(
        [sent("mail", name="tcp_check", instances=("host: mail\ntags:\n- env:production\n- team:mail\n",))]
    )
    dispatcher.pin([config("mail").pk], "ash")
    Trouble.objects.create(config=config("shop"), kind="failing")
    Node.objects.cordon()
    dispatcher.schedule([sent("db", name="postgres", source="admin", instances=("host: env:prod\n",))])
    return superuser()


def asked(query: str) -> str:
    return "?" + urlencode({"q": query})


QUERIES = [
    ("tag:env:prod", {"shop"}),
    ("-tag:env:prod", {"mail", "db"}),
    ('tag:"zone: a"', {"shop"}),
    ("team:payments", {"shop"}),
    ("team:pay", set()),
    ("check:tcp_check", {"mail"}),
    ("-check:tcp_check -check:postgres", {"shop"}),
    ("node:ash", {"shop", "mail"}),
    ("node:ash -state:pinned", {"shop"}),
    ("state:failing", {"shop"}),
    ("-state:failing", {"mail", "db"}),
    ("state:dangling", {"db"}),
    ("state:assigned port", set()),
    ("state:assigned MAIL", {"mail"}),
    ("source:admin", {"db"}),
    ("-source:admin mail", {"mail"}),
    ('"env:prod" -state:assigned', {"db"}),
    ("tag:%", set()),
    ("tag:env_prod", set()),
    ("check:'; -node:\\", set()),
]


@pytest.mark.parametrize(("query", "found"), QUERIES)
def test_the_bar_finds_by_each_of_its_words(client: Client, query: str, found: set[str]) -> None:
    assert listed(client, asked(query)) == found


@pytest.mark.parametrize(("query", "found"), QUERIES)
def test_the_operators_api_understands_the_same(client: Client, query: str, found: set[str]) -> None:
    rows = having(Role.VIEWER).rows(f"configs{asked(query)}")
    assert {row["origins"][0]["key"] for row in rows} == found


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("colour:red", "there is no filter colour:, there are tag:, team:, check:, node:, state:, source:."),
        ("state:ill", "state: there is no ill, there are assigned, dangling, "),
        ("tag: x", "tag: needs a value"),
    ],
)
def test_what_the_bar_does_not_understand_is_said_in_a_line(client: Client, query: str, error: str) -> None:
    response = client.get(CONFIGS + asked(query))
    assert error in response.content.decode()
    assert list(response.context["cl"].result_list) == []
    answer = having(Role.VIEWER).call("GET", f"configs{asked(query)}")
    assert answer.status_code == 400
    assert error in answer.json()["q"][0]


def test_nodes_are_found_by_the_words_of_nodes(client: Client) -> None:
    report("birch")

    def found(query: str) -> set[str]:
        names = {node.name for node in client.get(NODES + asked(query)).context["cl"].result_list}
        assert names == {row["name"] for row in having_viewer.rows(f"nodes{asked(query)}")}
        return names

    having_viewer = having(Role.VIEWER)
    assert found("state:alive ir") == {"birch"}
    assert found("-state:alive") == set()
    before = found("state:cordoned")
    Node.objects.filter(name="birch").cordon()
    assert found("state:cordoned") - before == {"birch"}
    assert found("check:tcp_check") == {"ash"}
    assert found("-check:tcp_check") == {"birch"}
    assert found("type:runner") == set()
    assert found("node:ash") == {"ash"}
    assert found("node:as") == set()
    assert found("team:payments") == found("tag:env:prod") == found("source:file") == {"ash"}
    assert found("-team:payments") == {"birch"}
    assert found("team:payments check:tcp_check") == {"ash"}
    # Nobody has what dangles.
    assert found("source:admin") == found("check:postgres") == found("team:pay") == set()
    assert list(chips(client.get(NODES + asked("team:payments state:alive")))) == ["team:payments", "state:alive"]
    assert "there is no filter colour:" in client.get(NODES + asked("colour:x")).content.decode()


def test_nodes_are_found_by_what_they_run_in_as_many_queries_for_many(client: Client) -> None:
    counts = []
    for number in (1, 30):
        report(*(f"n{one}" for one in range(number)))
        dispatcher.schedule(
            [sent(f"c{one}", instances=(f"url: {one}\ntags: ['team:web']\n",)) for one in range(number)]
        )
        client.get(NODES + asked("team:web"))
        with CaptureQueriesContext(connection) as taken:
            client.get(NODES + asked("team:web"))
        counts.append(len(taken))
    assert counts[0] == counts[1]


def chips(response: Any) -> dict[str, str]:
    return {chip.text: chip.without for chip in response.context["cl"].chips}


def test_each_filter_that_is_on_is_a_chip_that_takes_it_away(client: Client) -> None:
    query = asked('tag:env:prod "http://shop" -state:pinned') + "&owner=assigned&node=ash&o=-load&p=1"
    response = client.get(CONFIGS + query)
    shown = chips(response)
    assert list(shown) == ["tag:env:prod", '"http://shop"', "-state:pinned", "owner: assigned", "node: ash"]
    assert chips(client.get(CONFIGS + shown["tag:env:prod"])).keys() == shown.keys() - {"tag:env:prod"}
    assert chips(client.get(CONFIGS + shown["owner: assigned"])).keys() == shown.keys() - {"owner: assigned"}
    unfiltered = client.get(CONFIGS + response.context["cl"].unfiltered)
    assert (chips(unfiltered), unfiltered.context["cl"].params.keys()) == ({}, {"o"})
    assert "Clear all" not in unfiltered.content.decode()


def test_other_lists_have_chips_too(client: Client) -> None:
    response = client.get("/admin/checks/move/?q=ash&reason__exact=scheduled")
    assert list(chips(response)) == ["ash", "reason: scheduled"]
    assert list(chips(client.get(CONFIGS + asked("colour:red")))) == ["colour:red"]


def options(client: Client, rows: str, query: str) -> list[str]:
    answer = client.get(f"/admin/completions/{rows}/", {"q": query})
    assert answer.status_code == 200
    return re.findall(r'value="(.*?)" label', answer.content.decode().replace("&quot;", '"'))


@pytest.mark.parametrize(
    ("rows", "query", "offered"),
    [
        ("configs", "shop -t", ["shop -tag:", "shop -team:"]),
        ("configs", "x check:", ["x check:http_check", "x check:postgres", "x check:tcp_check"]),
        ("configs", "-check:tcp", ["-check:tcp_check"]),
        ("configs", "node:a", ["node:ash"]),
        ("configs", "state:d", ["state:dangling"]),
        ("configs", "source:", ["source:admin", "source:file"]),
        ("configs", "tag:env:prod", ["tag:env:prod", "tag:env:production"]),
        ("configs", 'tag:"zo', ['tag:"zone: a"']),
        ("configs", "team:", ["team:payments", "team:mail"]),
        ("configs", "colour:", []),
        ("configs", "tag:none of", []),
        ("nodes", "", [f"{word}:" for word in NODE_WORDS]),
        ("nodes", "state:s", ["state:silent"]),
        ("nodes", "team:p", ["team:payments"]),
        ("nodes", "node:", ["node:ash"]),
        ("nodes", "-source:f", ["-source:file"]),
    ],
)
def test_the_bar_offers_how_to_go_on(client: Client, rows: str, query: str, offered: list[str]) -> None:
    assert sorted(options(client, rows, query)) == sorted(offered)


def test_who_is_not_logged_in_gets_no_completions(client: Client) -> None:
    assert Client().get("/admin/completions/configs/?q=check:").status_code == 401


def test_tags_are_chips_that_lead_to_all_that_have_them(client: Client) -> None:
    for url, tag in ((CONFIGS, "team:payments"), (page_of("shop"), "zone: a")):
        page = client.get(url).content.decode()
        [link] = re.findall(rf'href="([^"]*)" title="{tag}">{tag}</a>', page)
        assert listed(client, link.removeprefix(CONFIGS)) == {"shop"}
    many = "url: http://many\ntags: [a:1, a:2, a:3, a:4, a:5, a:6]\n"
    dispatcher.schedule([sent("many", instances=(many,))])
    page = client.get(CONFIGS + asked("tag:a:6")).content.decode()
    assert '<span title="a:3, a:4, a:5, a:6">+4</span>' in page


def test_a_list_shows_whose_a_config_is_before_what_all_configs_have(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CLUSTER_NAME", "eu-prod")
    dispatcher.schedule([
        sent("mine", instances=("url: http://mine\ntags: [env:prod, 'service:door', 'team:doors']\n",)),
        sent("bare", instances=("url: http://bare\n",)),
    ])  # fmt: skip
    added = ["cluster_name:eu-prod", "kube_cluster_name:eu-prod"]
    assert own_and_common(tags_in(config("mine").text)) == (["team:doors", "service:door", "env:prod"], added)
    page = client.get(CONFIGS + asked("tag:team:doors")).content.decode()
    chips = re.findall(r'class="list-chip" href="[^"]*" title="([^"]*)"', page)
    assert chips == ["team:doors", "service:door"]
    assert f'<span title="env:prod, {", ".join(added)}">+3</span>' in page
    # What all have says nothing of one.
    assert f'<span title="{", ".join(added)}">+2</span>' in client.get(CONFIGS + asked("bare")).content.decode()


def test_a_config_without_tags_has_none(client: Client) -> None:
    assert tags_in(Config.objects.get(origins__key="db").text) == []
    assert sorted(tags_in(config("shop").text)) == ["env:prod", "team:payments", "zone: a"]


@pytest.mark.parametrize("words", [CONFIG_WORDS, NODE_WORDS])
def test_the_page_of_the_api_names_each_word(words: dict[str, Word]) -> None:
    page = Path("docs/api.md").read_text()
    rows = page.partition("| in `?q=` of")[2]
    assert [word for word, one in words.items() if f"`{word}:`" not in rows] == []


def test_a_completion_that_takes_too_long_offers_nothing_and_leaves_the_next_its_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_of_database(statement: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()

    usual = asked_of_database("SHOW statement_timeout")
    slow = Word("slow", lambda _: Q(), lambda _: asked_of_database("SELECT pg_sleep(60)::text"))
    monkeypatch.setattr(queries, "COMPLETING", 10)
    assert queries.completed("slow:x", {"slow": slow}) == []
    assert asked_of_database("SHOW statement_timeout") == usual
    assert queries.completed("state:dang", CONFIG_WORDS) == [("state:dangling", CONFIG_WORDS["state"].told)]
    assert asked_of_database("SHOW statement_timeout") == usual
