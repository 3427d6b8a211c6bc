"""One box: a check ID, a node, a file, or any text of an instance."""

import json
from urllib.parse import quote_plus

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Config, Instance, SearchedText, Source, freezes
from checks.tests.cast import report, sent, silence
from checks.tests.operators import config, listed, page_of, superuser
from nodes.models import Node
from operators.admin.base import row_url
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(warm: None) -> Client:
    report("ash")
    dispatcher.schedule(
        [
            sent("postgres.d/db-07.yaml", name="postgres", url="postgresql://db-07:5432"),
            sent("postgres.d/db-08.yaml", name="postgres", url="postgresql://db-08:5432"),
            sent("web.yaml", url="http://shop/?from=db-07"),
        ]
    )
    return superuser()


def found(client: Client, query: str) -> dict[str, list[str]]:
    response = client.get("/admin/search/", {"q": query})
    assert response.status_code == 200
    return {group.title: [hit.text for hit in group.hits] for group, _ in response.context["groups"]}


def check_id(key: str) -> str:
    return Instance.objects.get(config=config(key)).check_id


def node_page(name: str) -> str:
    return f"/admin/nodes/node/{Node.objects.get(name=name).pk}/change/"


def test_text_of_an_instance_is_found_and_shown_where_it_stands(client: Client) -> None:
    groups = found(client, "DB-07:5432")
    assert groups == {"Configs by their text": [str(config("postgres.d/db-07.yaml"))]}
    assert "<mark>db-07:5432</mark>" in client.get("/admin/search/", {"q": "DB-07:5432"}).content.decode()


def test_results_are_grouped_by_kind(client: Client) -> None:
    report("db-07")
    report("db-07.example.com")
    groups = found(client, "b-07")
    assert groups["Nodes"] == ["db-07", "db-07.example.com"]
    assert groups["Configs by file or name"] == [str(config("postgres.d/db-07.yaml"))]
    # A config is shown once, where it is found first.
    assert groups["Configs by their text"] == [str(config("web.yaml"))]


def test_each_check_is_shown_with_the_node_that_runs_it(client: Client) -> None:
    dispatcher.pause([config("postgres.d/db-08.yaml").pk])
    hits = client.get("/admin/search/", {"q": "postgresql://db-0"}).context["groups"][0][1]
    assert {hit.config: owner for hit, owner in hits} == {
        config("postgres.d/db-07.yaml").pk: "on ash",
        config("postgres.d/db-08.yaml").pk: "paused",
    }


def test_all_words_must_be_there(client: Client) -> None:
    assert found(client, "shop db-07") == {"Configs by their text": [str(config("web.yaml"))]}
    assert found(client, "shop db-08") == {}


def test_a_check_id_leads_to_its_config(client: Client) -> None:
    answer = client.get("/admin/search/", {"q": f" {check_id('web.yaml')} "})
    assert (answer.status_code, answer.headers["Location"]) == (302, page_of("web.yaml"))


def test_a_nodes_name_leads_to_the_node(client: Client) -> None:
    report("ash-2")
    answer = client.get("/admin/search/", {"q": "ash"})
    assert (answer.status_code, answer.headers["Location"]) == (302, node_page("ash"))


def test_two_things_of_one_name_are_both_shown(client: Client) -> None:
    Instance.objects.create(config=config("web.yaml"), check_id="ash:ash:1", shown_name="ash:ash")
    Instance.objects.create(config=config("web.yaml"), check_id="ash")
    assert found(client, "ash") == {"Configs by check ID": [str(config("web.yaml"))], "Nodes": ["ash"]}


def test_a_part_of_a_checks_name_is_found_here_and_in_the_list_of_configs(client: Client) -> None:
    dispatcher.schedule([sent("names.yaml", instances=("name: front\nurl: http://x\n",))])
    assert found(client, "check:fro") == {"Configs by check ID": ["http_check front"]}
    page = client.get("/admin/search/", {"q": "check:fro"}).content.decode()
    assert '<code class="pages-context">http_<mark>check:fro</mark>nt:' in page
    assert listed(client, "?q=CHECK:FRO") == {"names.yaml"}


def test_a_secret_is_not_searched(client: Client) -> None:
    dispatcher.schedule([sent("secret", url="http://x\npassword: hunter2")])
    assert found(client, "hunter2") == {}


def test_what_was_typed_is_shown_as_it_is(client: Client) -> None:
    page = client.get("/admin/search/", {"q": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in page
    dispatcher.schedule([sent("<img src=x>", url="http://<b>bold</b>")])
    page = client.get("/admin/search/", {"q": "<"}).content.decode()
    assert "<mark>&lt;</mark>img src=x&gt;" in page
    assert "<img src=x" not in page
    assert "<b>bold" not in page


@pytest.mark.parametrize("query", ["", " ", "\0", "%%", "_%", "\\", "'", "é", "x" * 2000, "\x1b[31m"])
def test_anything_may_be_typed(client: Client, query: str) -> None:
    assert found(client, query) == {}


def test_the_first_of_many_are_shown(client: Client) -> None:
    dispatcher.schedule([sent(f"many-{number}", url=f"http://many-{number}") for number in range(105)])
    response = client.get("/admin/search/", {"q": "many-"})
    assert [len(hits) for _, hits in response.context["groups"]] == [100, 5]
    assert '<a href="/admin/checks/config/?q=many-">All 105</a>' in response.content.decode()
    filtered = client.get("/admin/search/", {"q": "check:http_check many"}).content.decode()
    assert "The first 100." in filtered
    assert ">All 105</a>" in filtered


def test_a_config_of_many_instances_is_shown_once(client: Client) -> None:
    dispatcher.schedule([sent("twice", instances=("url: http://twice-1\n", "url: http://twice-2\n"))])
    groups = found(client, "http_check")
    assert groups["Configs by check ID"].count(str(config("twice"))) == 1
    response = client.get("/admin/search/", {"q": "http_check"})
    configs = [hit.config for group, _ in response.context["groups"] for hit in group.hits]
    assert len(configs) == len({*configs})


def test_who_may_not_see_configs_may_not_search(warm: None) -> None:
    stranger, viewer = Client(), Client()
    stranger.force_login(user("nobody", is_staff=True))
    viewer.force_login(user("vera", Role.VIEWER, is_staff=True))
    assert stranger.get("/admin/search/?q=x").status_code == 403
    assert viewer.get("/admin/search/?q=x").status_code == 200
    assert Client().get("/admin/search/?q=x").headers["Location"].startswith("/admin/login/")


def test_as_many_queries_for_one_as_for_thirty(client: Client) -> None:
    numbers = []
    for query in ("db-08", "part"):
        with CaptureQueriesContext(connection) as queries:
            client.get("/admin/search/", {"q": query})
        numbers.append(len(queries))
        dispatcher.schedule([sent(f"part-{number}") for number in range(30)])
    assert Config.objects.count() > 30
    # Counting those that are not shown takes five, with its bound in time.
    assert numbers[1] <= numbers[0] + 5


@pytest.mark.parametrize("page", ["/admin/", "/admin/checks/config/", "/admin/checks/rule/add/", "/admin/changes/"])
def test_every_page_has_the_box(client: Client, page: str) -> None:
    assert client.get(page).content.decode().count('action="/admin/search/" role="search"') == 1


@pytest.mark.parametrize("where", ["/admin/search/", "/admin/checks/config/", "/admin/checks/pin/"])
def test_very_many_words_are_few_conditions(client: Client, where: str) -> None:
    def statements(number: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(where, {"q": " ".join(f"w{one}" for one in range(number))}).status_code == 200
        return sum(len(query["sql"]) for query in queries)

    statements(10)
    assert statements(2000) < 1.5 * statements(10)


def palette(client: Client, query: str) -> list[tuple[str, str, str]]:
    answer = client.get("/admin/search/", {"extended": "1", "s": query})
    assert b"<main" not in answer.content
    lines: list[tuple[str, str, str]] = answer.context["lines"]
    return lines


def test_the_palette_finds_pages_nodes_and_configs(client: Client) -> None:
    assert palette(client, "ash")[0] == (node_page("ash"), "ash", "Nodes")
    assert palette(client, "chang")[0] == ("/admin/changes/", "Changes", "Page")
    assert palette(client, "rebal")[0] == ("/admin/checks/plan/rebalance/", "Rebalance", "Act")
    assert palette(client, "add pin")[0] == ("/admin/checks/pin/add/", "Add pin", "Act")
    assert "Configs by file or name" in {kind for _, _, kind in palette(client, "db-07")}
    assert palette(client, "no such thing") == [("/admin/search/?q=no+such+thing", "no such thing", "Search all")]
    assert palette(client, "") == []


def test_words_of_the_lists_bars_are_filters_here_too(client: Client) -> None:
    postgres = sorted(str(config(f"postgres.d/db-0{number}.yaml")) for number in (7, 8))
    page = client.get("/admin/search/", {"q": "check:postgres state:assigned"})
    [(group, _)] = page.context["groups"]
    assert (group.title, sorted(hit.text for hit in group.hits)) == ("Configs that fit the filter", postgres)
    assert listed(client, group.more.removeprefix("/admin/checks/config/")) == {
        f"postgres.d/db-0{n}.yaml" for n in (7, 8)
    }
    assert found(client, "state:alive") == {"Nodes that fit the filter": ["ash"]}
    palette = client.get("/admin/search/?s=check:postgres").content.decode()
    assert postgres[0] in palette


def test_what_fits_no_filter_is_text(client: Client) -> None:
    assert list(found(client, "from:db-07 check:none")) == []
    assert list(found(client, "db-07:5432")) == ["Configs by their text"]
    page = client.get("/admin/search/", {"q": "state:ill"}).content.decode()
    assert "state: there is no ill" in page


@pytest.mark.parametrize("query", ["type:bogus", "state:bogus tag:env:prod"])
def test_a_bad_value_of_a_word_that_one_list_has_is_said(client: Client, query: str) -> None:
    assert "As a filter it is not understood." in client.get("/admin/search/", {"q": query}).content.decode()


@pytest.mark.parametrize(
    ("phrase", "url", "title"),
    [
        ("pause shop", "/admin/checks/pause/add/?configs=WEB", "Pause WEB…"),
        ("isolate db-07:5432", "/admin/checks/isolation/add/?configs=DB-07", "Isolate DB-07…"),
        ("isolate db-70:5432", "/admin/checks/isolation/add/?configs=DB-07", "Isolate DB-07…"),
        ("Pin shop to ash", "/admin/checks/pin/add/?configs=WEB&kind=node&aim=ash", "Pin WEB to ash…"),
        ("pin shop to ahs", "/admin/checks/pin/add/?configs=WEB&kind=node&aim=ash", "Pin WEB to ash…"),
        ("pin shop to a*", "/admin/checks/pin/add/?configs=WEB&kind=pattern&aim=a%2A", "Pin WEB to a*…"),
        ("pin shop to zone=a", "/admin/checks/pin/add/?configs=WEB&kind=label&aim=zone%3Da", "Pin WEB to zone=a…"),
        (
            "pause postgres db-07:5432, db-08",
            "/admin/checks/pause/add/?configs=DB-07%2C+DB-08",
            "Pause DB-07, DB-08…",
        ),
        ("pause", "/admin/checks/pause/add/", "Pause configs…"),
        ("pin to ash", "/admin/checks/pin/add/?kind=node&aim=ash", "Pin configs to ash…"),
        ("move", "/admin/checks/config/", "Move configs: choose them in the list"),
        ("cordon", "/admin/nodes/node/", "Cordon a node: choose it in the list"),
        ("give access", "/admin/auth/user/add/", "Give access to a colleague: add a user…"),
        ("grant access to vera", "/admin/auth/user/add/?username=vera", "Give access to vera: add a user…"),
        ("undo", "/admin/changes/", "Undo what happened: each change has the button"),
    ],
)
def test_the_palette_takes_acts_as_people_say_them(client: Client, phrase: str, url: str, title: str) -> None:
    """A config is called by its whole name: here WEB, DB-07 and DB-08."""
    keys = {"WEB": "web.yaml", "DB-07": "postgres.d/db-07.yaml", "DB-08": "postgres.d/db-08.yaml"}
    for word, key in keys.items():
        name = str(config(key))
        url, title = url.replace(word, quote_plus(name)), title.replace(word, name)
    assert palette(client, phrase)[0] == (url, title, "Act")


@pytest.mark.parametrize("verb", ["pause", "isolate", "pin", "move"])
def test_an_act_is_offered_for_each_config_that_may_be_meant_and_for_none_that_is_not_there(
    client: Client, verb: str
) -> None:
    titles = {f"{verb.capitalize()} {config(f'postgres.d/db-0{number}.yaml')}…" for number in (7, 8)}
    assert {title for _, title, kind in palette(client, f"{verb} postgres") if kind == "Act"} == titles
    assert {kind for _, _, kind in palette(client, f"{verb} no-such-thing")} == {"Search all"}
    dispatcher.schedule([sent(f"many-{number}.yaml", name="many", url=f"http://many-{number}/") for number in range(9)])
    lines = [line for line in palette(client, f"{verb} many") if line[2] == "Act"]
    assert len(lines) == 6
    assert lines[-1][:2] == (
        "/admin/checks/config/?q=many",
        f"{verb.capitalize()} several of many: choose them in the list",
    )


def test_move_gives_a_config_to_a_node_once_and_pins_nothing(client: Client) -> None:
    report("birch")
    shop = config("web.yaml")
    url, title, kind = palette(client, "move shop to brich")[0]
    assert (title, kind) == (f"Move {shop} to birch…", "Act")
    page = client.get(url).content.decode()
    assert 'value="birch"' in page
    # Where it is already is not named among those with room.
    assert "Least loaded: birch (" in page
    assert 'action="/admin/checks/config/"' in page
    sent_form = {
        "action": "reassign", "asked": "yes", "_selected_action": shop.pk, "node": "birch", "hold": "once", "note": ""
    }  # fmt: skip
    plan_page = client.post("/admin/checks/config/", sent_form)
    client.post(f"{plan_page['Location'].removesuffix('change/')}apply/")
    shop.refresh_from_db()
    assert shop.assignment.node.name == "birch"
    assert not hasattr(shop, "pin")


def test_the_page_that_moves_a_config_is_for_who_may_do_it(client: Client) -> None:
    url = f"/admin/checks/config/{config('web.yaml').pk}/reassign/"
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER))
    assert viewer.get(url).status_code == 403
    assert client.get("/admin/checks/config/1000000/reassign/").status_code == 404
    assert client.post(url, {"node": "birch", "asked": "1"}).status_code == 405


def test_undo_leads_to_the_last_plan_that_can_be_taken_back(client: Client) -> None:
    report("birch")
    shop = config("web.yaml")
    order = plans.order(lambda: deciding.reassign([shop.pk], "birch"), actor="olga")
    plan = order[0]
    said = (row_url(plan), f"Undo plan {plan.pk} ({plan}): its page has the button", "Act")
    assert palette(client, "undo")[0] == said
    assert palette(client, "undo birch")[0] == said
    assert palette(client, "undo elm")[0][0] == "/admin/changes/"


def test_access_is_given_on_the_page_of_who_is_known(client: Client) -> None:
    vera = user("vera", Role.VIEWER)
    assert palette(client, "give access to Vera")[0][:2] == (
        row_url(vera),
        "Give access to vera: the user's page has the roles",
    )
    assert 'value="otto"' in client.get("/admin/auth/user/add/?username=otto").content.decode()


def test_what_is_said_of_a_node_leads_to_its_page(client: Client) -> None:
    report("ash-2")
    lines = palette(client, "drain ash")[:2]
    assert lines == [(node_page(name), f"Drain {name}: its page has the button", "Act") for name in ("ash", "ash-2")]
    assert palette(client, "drain ahs")[0] == (node_page("ash"), "Drain ash: its page has the button", "Act")


def test_what_ends_an_order_or_forgets_a_node_leads_to_the_page_that_has_the_button(client: Client) -> None:
    shop = config("postgres.d/db-07.yaml")
    report("birch")
    dispatcher.isolate([shop.pk], actor="eve")
    dispatcher.pin([shop.pk], "ash", actor="eve")
    dispatcher.pause([shop.pk], actor="eve")
    for verb in ("Resume", "Unpin", "Release"):
        said = (row_url(shop), f"{verb} {shop}: its page has the button", "Act")
        assert palette(client, f"{verb.lower()} {str(shop).split()[-1]}")[0] == said
        assert palette(client, f"{verb.lower()} nothing like it")[0][2] != "Act"
    assert palette(client, "resume")[0][:2] == (
        "/admin/checks/config/?order=paused",
        "Resume configs: choose them in the list",
    )
    report("elm")
    silence("elm")
    dispatcher.expire_nodes(force=True)
    assert palette(client, "forget elm")[0][:2] == (node_page("elm"), "Forget elm: its page has the button")
    assert palette(client, "forget ash")[0][2] != "Act"
    assert palette(client, "forget")[0][:2] == (
        "/admin/nodes/node/?state=lost",
        "Forget a lost node: choose it in the list",
    )


def test_a_freeze_is_ended_and_a_source_scanned_from_the_palette(client: Client) -> None:
    assert palette(client, "thaw")[0][2] != "Act"
    freeze = freezes.freeze(actor="eve")
    assert palette(client, "thaw")[0][:2] == (row_url(freeze), "End the freeze: its page has the button")
    source, _ = Source.objects.get_or_create(name="file")
    for phrase in ("scan", "scan fil", "scan again", "rescan", "scan file now"):
        assert palette(client, phrase)[0][:2] == (row_url(source), f"Scan {source} now: its page has the button")


def test_forms_are_filled_in_with_what_was_said(client: Client) -> None:
    page = client.get("/admin/checks/pin/add/?configs=web&kind=node&aim=ash").content.decode()
    assert 'value="web"' in page
    assert 'value="ash"' in page
    assert 'value="web"' in client.get("/admin/checks/pause/add/?configs=web").content.decode()


def test_who_may_not_do_it_is_not_offered_it(client: Client) -> None:
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER))
    freezes.freeze(actor="eve")
    for phrase in (
        "drain ash",
        "pin shop",
        "pause shop",
        "move shop to ash",
        "resume",
        "forget",
        "thaw",
        "scan",
        "undo",
        "give access",
    ):
        assert "Act" not in {kind for _, _, kind in palette(viewer, phrase)}


def test_what_is_stored_now_is_found_by_any_way_it_was_stored(client: Client) -> None:
    [one, *_] = Config.objects.filter(name="postgres").order_by("pk")
    Config.objects.filter(pk=one.pk).update(title="postgres ledger", text=one.text.replace("db-07", "ledger"))
    assert "postgres ledger" in str(found(client, "LEDGER"))
    assert Config.objects.containing("ledger").count() == 1
    # http_check's URL names it still.
    assert [one.name for one in Config.objects.containing("db-07")] == ["http_check"]
    Config.objects.all().delete()
    assert not SearchedText.objects.exists()
    assert not found(client, "ledger")


def test_postgresql_knows_whether_a_search_finds_few_configs_or_most(client: Client) -> None:
    dispatcher.schedule([sent(f"shop-{one}.yaml", url=f"http://shop-{one}/") for one in range(200)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE checks_config, checks_searchedtext")

    def expected(word: str) -> int:
        """How many configs PostgreSQL expects to find. It reads them in the order of the page where they are many."""
        plan = json.loads(Config.objects.containing(word).order_by().explain(format="json"))
        return int(plan[0]["Plan"]["Plan Rows"])

    assert expected("shop-117") < 20
    assert expected("http") > 150


def test_what_looks_like_a_filter_and_is_none_says_so(client: Client) -> None:
    assert (
        "there is no filter owner:, there are tag:, team:, "
        in client.get("/admin/search/?q=owner:ash").content.decode()
    )
    # What is text of something is no filter.
    assert "there is no filter" not in client.get("/admin/search/?q=postgresql:").content.decode()
    assert "there is no filter" not in client.get("/admin/search/?q=domain:nowhere").content.decode()


def test_a_paused_config_is_said_to_be_paused(client: Client) -> None:
    dispatcher.pause([config("web.yaml").pk])
    page = client.get("/admin/search/?q=shop").content.decode()
    assert "</a> paused" in page
    assert "on no node" not in page
