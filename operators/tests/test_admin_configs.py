"""The admin's list of configs and a config's page."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin import site
from django.db import connection
from django.db.models.functions import Now

from checks import dispatcher
from checks.models import Assignment, Config, Cost
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, listed, operator, page_of, superuser
from clusteragent.lib.database.natural import Natural
from nodes.models import Hearing, Node, Runner
from nodes.models.runners import Answer, CheckStats
from operators.admin.configs import ConfigAdmin

pytestmark = pytest.mark.django_db


@pytest.fixture
def work(warm: None) -> None:
    """shop and mail run on ash, db on birch, pod is ash's endpoint check, and lone was sent when nobody could take it."""
    report("ash")
    dispatcher.schedule(
        [sent("shop"), sent("mail", name="tcp_check", instances=("host: mail\nport: 25\nplace: Café\n",))]
    )
    dispatcher.schedule([sent("pod", source="kubernetes", node_name="ash")])
    Node.objects.cordon()
    dispatcher.schedule([sent("lone", source="admin")])
    report("birch")
    dispatcher.schedule([sent("db", name="postgres", instances=("host: db\npassword: hunter22\n",))])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"shop", "mail", "pod", "lone", "db"}),
        ("?owner=assigned", {"shop", "mail", "db"}),
        ("?owner=dangling", {"lone"}),
        ("?owner=endpoint", {"pod"}),
        ("?check=tcp_check", {"mail"}),
        ("?source=admin", {"lone"}),
        ("?source=file&check=http_check", {"shop"}),
        ("?node=ash", {"shop", "mail", "pod"}),
        ("?node=cedar", set()),
        ("?q=http%3A%2F%2Fshop", {"shop"}),
        ("?q=HOST%3A+mail", {"mail"}),
        ("?q=%22host%3A+mail%22", {"mail"}),
        ("?q=%22host%3A+shop%22", set()),
        ("?q=POSTGRES", {"db"}),
        ("?q=CAFÉ", set()),
        ("?q=cAFé", {"mail"}),
        ("?q=100%25", set()),
        ("?q=hunter22", set()),
    ],
)
def test_the_list_shows_what_filters_and_search_ask_for(work: None, query: str, found: set[str]) -> None:
    assert listed(superuser(), query) == found


def test_a_service_leads_to_all_of_its_configs(work: None) -> None:
    keys = "service/shop/web/http_check", "endpoints/shop/web/10.0.0.1/nginx", "service/shop/web2/http_check"
    dispatcher.schedule([sent(key, source="kubernetes") for key in keys])
    client = superuser()
    page = client.get(f"{CONFIGS}?service=shop/web").content.decode().replace("<wbr>", "")
    assert 'href="/admin/checks/config/?service=shop%2Fweb">kubernetes: service shop/web, http_check</a>' in page
    assert "kubernetes: endpoint 10.0.0.1 of service shop/web, nginx" in page
    assert "web2" not in page
    assert listed(client, "?service=shop") == set()


def test_a_clustercheck_leads_to_all_of_its_configs(work: None) -> None:
    keys = "clustercheck/shop/db#1", "clustercheck/shop/db#2", "clustercheck/shop/db2"
    dispatcher.schedule([sent(key, source="kubernetes") for key in keys])
    client = superuser()
    page = client.get(f"{CONFIGS}?clustercheck=shop/db").content.decode().replace("<wbr>", "")
    assert 'href="/admin/checks/config/?clustercheck=shop%2Fdb">kubernetes: clustercheck shop/db#1</a>' in page
    assert listed(client, "?clustercheck=shop/db") == set(keys[:2])


def test_a_digest_or_a_check_id_finds_its_config_alone(work: None) -> None:
    client, mail = superuser(), config("mail")
    dispatcher.schedule([sent("liar", instances=(f"url: {mail.digest}\n",))])
    assert listed(client, f"?q={mail.digest}") == {"mail"}
    assert listed(client, f"?q={mail.instances.get().check_id}") == {"mail"}


def test_the_list_says_who_runs_what(work: None) -> None:
    client = superuser()
    assert b">birch</a>" in client.get(CONFIGS + "?check=postgres").content
    assert b"none: dangling" in client.get(CONFIGS + "?owner=dangling").content
    assert b"none: endpoint of ash" in client.get(CONFIGS + "?owner=endpoint").content
    assert b"file:db" in client.get(CONFIGS + "?check=postgres").content


def test_a_configs_page_shows_it_scrubbed(work: None) -> None:
    page = superuser().get(page_of("db")).content.decode()
    assert "host: db" in page
    assert "hunter22" not in page
    assert config("db").instances.get().check_id in page
    assert "scheduled" in page


def test_configs_of_other_sources_are_read_only(work: None) -> None:
    client = superuser()
    before = bytes(config("db").wire)
    form = {"key": "db", "check": "postgres", "yaml": "instances: [{host: other}]"}
    assert b'name="yaml"' not in client.get(page_of("db")).content
    assert client.post(page_of("db"), form).status_code == 403
    assert bytes(config("db").wire) == before


def test_a_config_is_not_deleted_but_by_unscheduling_it(work: None) -> None:
    client = superuser()
    assert client.post(page_of("lone").replace("change", "delete"), {"post": "yes"}).status_code == 403
    client.post(CONFIGS, {"action": "delete_selected", "_selected_action": [config("lone").pk], "post": "yes"})
    assert Config.objects.count() == 5


def test_what_comes_from_outside_is_escaped(warm: None) -> None:
    report("<b>ash")
    evil = "<script>alert(1)</script>"
    dispatcher.schedule([sent(evil, name=evil, source=evil, instances=(f"url: {evil}\n",))])
    client = superuser()
    for url in (CONFIGS, page_of(evil), "/admin/nodes/node/", "/admin/checks/move/", CONFIGS + f"?q={evil}"):
        page = client.get(url).content.decode()
        assert evil not in page
        assert "<b>ash" not in page


def test_who_may_not_look_sees_nothing(work: None) -> None:
    client = operator("view_node")
    assert client.get(CONFIGS).status_code == 403
    assert client.get(page_of("db")).status_code == 403


@pytest.mark.parametrize("url", [CONFIGS, "/admin/nodes/node/", "/admin/checks/move/"])
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    warm: None,
    url: str,
    django_assert_max_num_queries: Callable[..., Any],
    django_assert_num_queries: Callable[..., Any],
) -> None:
    Hearing.objects.update(last_pass=Now())
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent(f"few{number}") for number in range(5)])
    client = superuser()
    client.get(url)
    with django_assert_max_num_queries(24) as few:
        client.get(url)
    report(*(f"n{number}" for number in range(200)))
    dispatcher.schedule([sent(f"many{number}") for number in range(200)])
    # A pass that is late is asked about, too.
    Hearing.objects.update(last_pass=Now())
    with django_assert_num_queries(len(few)):
        client.get(url)


def test_a_node_page_shows_its_first_configs_and_where_all_are(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent(f"c{number}") for number in range(25)])
    page = superuser().get(f"/admin/nodes/node/{Node.objects.get().pk}/change/").content.decode()
    assert page.count("/admin/checks/config/") >= 20
    assert "/admin/checks/config/?node=ash" in page
    assert "/admin/checks/move/?q=ash" in page


def test_the_list_says_what_is_wrong_with_a_config_and_what_it_costs(work: None) -> None:
    checks = {name: config(name).instances.get().check_id for name in ("shop", "mail")}
    error = '[{"message": "' + "word " * 20 + '<b>end</b>"}]'
    told = [CheckStats(checks["shop"], 300.0, True, error), CheckStats(checks["mail"], 1500.0)]
    ash = Node.objects.get(name="ash").pk
    Runner.objects.note({ash: Answer(told, 4)})
    Cost.objects.measure()
    Trouble.objects.note()
    Trouble.objects.update(since=Now() - timedelta(minutes=12))
    answer = superuser().get(CONFIGS)
    rows = {row.pk: row for row in answer.context["cl"].result_list}
    columns = ConfigAdmin(Config, site)
    shop, mail, lone = (rows[config(name).pk] for name in ("shop", "mail", "lone"))
    assert re.sub(r"<[^>]*>", "", columns.condition(shop)) == "failing for 12 min"
    assert columns.condition(lone).startswith("dangling for")
    assert (columns.load(mail), columns.run_time(mail)) == ("10\u202f%", "1.5 s")
    assert columns.condition(mail) == columns.last_error(mail) == columns.load(lone) == ""
    page = answer.content.decode()
    assert "&lt;b&gt;end&lt;/b&gt;" in page
    assert "word word…" in page


@pytest.mark.parametrize(
    ("column", "first"), [("condition", "shop"), ("load", "mail"), ("run_time", "mail"), ("since", "db")]
)
def test_the_list_is_sorted_by_what_it_shows(work: None, column: str, first: str) -> None:
    checks = {name: config(name).instances.get().check_id for name in ("shop", "mail")}
    told = [CheckStats(checks["shop"], 300.0, True, "no"), CheckStats(checks["mail"], 1500.0)]
    Runner.objects.note({Node.objects.get(name="ash").pk: Answer(told, 4)})
    Cost.objects.measure()
    Trouble.objects.note()
    Assignment.objects.filter(config=config("db")).update(since=Now() + timedelta(minutes=1))
    client = superuser()
    shown = client.get(CONFIGS).context["cl"].list_display
    number = shown.index(column)
    order = f"{'' if column == 'condition' else '-'}{number}"
    rows = client.get(f"{CONFIGS}?o={order}").context["cl"].result_list
    assert rows[0].pk == config(first).pk


def test_the_list_is_in_the_order_in_which_people_count() -> None:
    numbers = (1, 2, 9, 10, 11, 100)
    for number in reversed(numbers):
        dispatcher.schedule([sent(f"{number}", instances=(f"name: site {number}\nurl: http://{number}",))])
    rows = superuser().get(CONFIGS).context["cl"].result_list
    assert [row.title.rpartition(" ")[2] for row in rows] == [str(number) for number in numbers]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    assert "config_in_natural_order" in Config.objects.order_by(Natural("title")).explain()
