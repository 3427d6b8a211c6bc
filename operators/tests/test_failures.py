"""The page of failures."""

import re
import time
from collections.abc import Collection
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.explain import failures
from checks.models import Config
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import config, page_of, superuser
from nodes.models import Node, Runner
from nodes.models.runners import Answer, CheckStats
from operators.admin.base import list_url, row_url

pytestmark = pytest.mark.django_db

PAGE = "/admin/failures/"


def fail(errors: dict[str, str], last_success: int = 0) -> None:
    """Let these configs' last runs fail: {key: error}."""
    told: dict[int, list[CheckStats]] = {}
    for key, error in errors.items():
        one = config(key)
        check_id = one.instances.get().check_id
        stats = CheckStats(check_id, 5.0, True, error)._replace(last_success=last_success)
        told.setdefault(one.assignment.node_id, []).append(stats)
    Runner.objects.note({node: Answer(stats, 4) for node, stats in told.items()})
    Trouble.objects.note()


@pytest.fixture
def shops(warm: None) -> list[str]:
    """Six configs on two nodes."""
    report("ash", "birch")
    keys = [f"shop-{number}" for number in range(6)]
    dispatcher.schedule(
        [
            sent(key, instances=(f"url: http://{key}\ntags:\n- 'team:{'pay' if key < 'shop-3' else 'web'}'\n",))
            for key in keys
        ]
    )
    return keys


def text(client: Client) -> str:
    return client.get(PAGE).content.decode().replace("\u202f", " ")


def test_the_same_error_of_many_is_one_failure(admin_client: Client, shops: list[str]) -> None:
    errors = {key: f'[{{"message": "connect to {key}.example.com:44{key[-1]}: refused"}}]' for key in shops[:4]}
    fail(errors | {"shop-4": "bad password for 'admin'"}, last_success=int(time.time()) - 300)
    Trouble.objects.filter(config=config("shop-2")).update(since=Now() - timedelta(hours=2))
    found = failures.read().told
    assert [(one.pattern, len(one.configs)) for one in found] == [
        ("connect to *: refused", 4),
        ("bad password for *", 1),
    ]
    assert not failures.read().is_cut
    assert found[0].example == "connect to shop-2.example.com:442: refused", "it has failed longest"
    assert found[0].teams == ["pay", "web"]
    assert sum(found[0].nodes.values()) == 4
    page = text(admin_client)
    assert "5 configs fail with 2 different errors" in page
    assert "2 h ago" in page
    assert "5 min ago" in page
    assert page_of("shop-4") in page
    assert "Only on" in page


def test_nodes_and_teams_are_links(admin_client: Client, shops: list[str]) -> None:
    fail(dict.fromkeys(shops, "no"))
    page = unescape(text(admin_client))
    for node in Node.objects.filter(assignments__config__in=failures.read().told[0].configs).distinct():
        assert f'<a href="{row_url(node)}">{node.name}</a>' in page
    url = list_url(Config, q="team:pay state:failing")
    assert f'<a href="{url}">pay</a>, <a' in page
    assert len(admin_client.get(url).context["cl"].result_list) == 3


def test_a_team_that_shows_a_secret_leads_nowhere(admin_client: Client, warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("cache", instances=("tags: ['team:password=hunter22']\n",))])
    fail({"cache": "no"})
    assert "hunter22" not in text(admin_client)


def test_secrets_in_errors_are_hidden(admin_client: Client, shops: list[str]) -> None:
    fail({"shop-1": "login with password=hunter22 <b>failed</b>"})
    page = text(admin_client)
    assert "hunter22" not in page
    assert "&lt;b&gt;failed" in page


def test_a_login_called_team_is_no_team(admin_client: Client, warm: None) -> None:
    report("ash")
    secret = ("url: redis://team:s3cret99@cache:6379\nuserpwd: team:Winter2024!\ntags: ['team:cache']\n",)
    dispatcher.schedule([sent("cache", instances=secret)])
    fail({"cache": "no"})
    page = text(admin_client)
    assert "s3cret99" not in page
    assert "Winter2024" not in page
    assert failures.read().told[0].teams == ["cache"]


@pytest.mark.parametrize("moment", [2**63 - 1, 1_764_323_000_000, -(2**62)])
def test_a_date_that_is_none_says_nothing(admin_client: Client, shops: list[str], moment: int) -> None:
    fail({"shop-1": "no"}, last_success=moment)
    assert "none known" in text(admin_client)


def test_a_config_of_several_errors_counts_once(shops: list[str]) -> None:
    fail({"shop-1": "no", "shop-2": "never"})
    assert failures.read().configs == failures.read().number == 2


def test_a_config_that_lost_its_node_is_none(shops: list[str]) -> None:
    fail({"shop-1": "no"})
    Config.objects.get(origins__key="shop-1").assignment.delete()
    assert failures.read() == ([], 0, 0, False)


def test_another_nodes_old_stats_say_nothing(shops: list[str]) -> None:
    fail({"shop-1": "no"})
    other = Node.objects.exclude(pk=config("shop-1").assignment.node_id).get()
    Runner.objects.note(
        {other.pk: Answer([CheckStats(config("shop-1").instances.get().check_id, 5.0, True, "old")], 4)}
    )
    [found] = failures.read().told
    assert found.example == "no"


def test_of_too_many_the_oldest_are_grouped(admin_client: Client, shops: list[str], monkeypatch) -> None:
    fail(dict.fromkeys(shops, "no"))
    Trouble.objects.filter(config=config("shop-5")).update(since=Now() - timedelta(hours=2))
    monkeypatch.setattr(failures, "MOST", 2)
    [found] = failures.read().told
    assert failures.read().is_cut
    assert config("shop-5") in found.configs
    assert "There are more" in text(admin_client)


def test_it_takes_as_many_queries_for_many_as_for_few(admin_client: Client, shops: list[str]) -> None:
    fail({"shop-1": "no"})
    text(admin_client)
    counts = []
    for errors in ({"shop-1": "no"}, {key: f"{'abcdef'[number]} no" for number, key in enumerate(shops)}):
        fail(errors)
        with CaptureQueriesContext(connection) as queries:
            text(admin_client)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_when_nothing_fails_it_says_so(admin_client: Client) -> None:
    assert re.search("No config fails", text(admin_client))


@pytest.mark.parametrize(
    ("error", "pattern"),
    [
        ("GET https://a.example/x?y=1 answered 503", "GET * answered *"),
        ("no route to db-7", "no route to *"),
        ("can't open '/var/x': denied", "can't open *: denied"),
        ("", ""),
    ],
)
def test_what_differs_is_left_out(error: str, pattern: str) -> None:
    assert failures.pattern_of(error) == pattern


def test_nodes_that_tell_nothing_are_named_with_the_reason(shops: list[str]) -> None:
    client = superuser()
    text = unescape(client.get(PAGE).content.decode())
    assert "No stats are told, so failures there are not seen here." in text
    assert "No config fails" not in text
    fail({"shop-0": "refused"})
    other = Node.objects.get(name="birch" if config("shop-0").assignment.node.name == "ash" else "ash")
    Runner.objects.note({other.pk: Answer(None, None, "not asked: 192.0.2.1 is outside of the networks")})
    text = unescape(client.get(PAGE).content.decode())
    reason = f"{other.name}: not asked: 192.0.2.1 is outside of the networks."
    assert f"Of 1 of 2 nodes no stats are told, so failures there are not seen here. {reason}" in text
    node = unescape(client.get(row_url(other)).content.decode())
    assert "unknown: not asked: 192.0.2.1 is outside of the networks" in node


def fail_instances(numbers: Collection[int], key: str = "mails", error: str = "refused") -> None:
    """Let these instances of a config fail, counted from 1, and its others run well."""
    one = config(key)
    ids = one.instances.order_by("pk").values_list("check_id", flat=True)
    stats = [CheckStats(check_id, 5.0, number in numbers, error) for number, check_id in enumerate(ids, 1)]
    Runner.objects.note({one.assignment.node_id: Answer(stats, 4)})
    Trouble.objects.note()


def mail(number: int) -> str:
    return f"name: mail {number}\nhost: m{number}\nport: 25\ntags:\n- 'team:{'pay' if number in (3, 7) else 'web'}'\n"


@pytest.fixture
def mails(warm: None) -> None:
    """A config of fifteen instances, of which two are team pay's."""
    report("ash")
    dispatcher.schedule([sent("mails", name="tcp_check", instances=tuple(map(mail, range(1, 16))))])


def test_of_several_instances_those_that_fail_are_named_with_their_teams(admin_client: Client, mails: None) -> None:
    fail_instances({3, 7})
    [found] = failures.read().told
    assert found.teams == ["pay"]
    assert f'<a href="{page_of("mails")}">mail 3 and mail 7 of tcp_check mail 1 +14</a>' in text(admin_client)
    page = admin_client.get(page_of("mails")).content.decode()
    assert re.search(r"Failing instances</dt><dd>mail 3 and mail 7</dd>", page)
    assert re.search(r"Their teams</dt><dd>pay</dd>", page)
    assert "mail 3: refused" in page
    assert "mail 3: refused" in admin_client.get("/admin/checks/config/").content.decode()
    said = "The last run of mail 3 and mail 7 of tcp_check mail 1 +14 failed: refused."
    assert said in admin_client.get("/admin/").content.decode()


def test_instances_that_fail_otherwise_are_a_failure_of_their_own(mails: None) -> None:
    one = config("mails")
    ids = list(one.instances.order_by("pk").values_list("check_id", flat=True))
    stats = [CheckStats(ids[2], 5.0, True, "refused"), CheckStats(ids[0], 5.0, True, "timed out")]
    Runner.objects.note({one.assignment.node_id: Answer(stats, 4)})
    Trouble.objects.note()
    named = {each.pattern: (each.named(one), each.teams) for each in failures.read().told}
    assert named == {
        "refused": ("mail 3 of tcp_check mail 1 +14", ["pay"]),
        "timed out": ("mail 1 of tcp_check mail 1 +14", ["web"]),
    }


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        (range(1, 16), "all 15 instances of tcp_check mail 1 +14"),
        (range(2, 7), "mail 2, mail 3, mail 4 and 2 more of tcp_check mail 1 +14"),
    ],
)
def test_of_many_failing_instances_few_are_named(mails: None, numbers: range, named: str) -> None:
    fail_instances(numbers)
    [found] = failures.read().told
    assert found.named(config("mails")) == named
    assert found.teams == ["pay", "web"]


def test_an_instance_without_a_name_is_called_by_what_it_connects_to(warm: None) -> None:
    report("ash")
    instances = tuple(f"host: h{number}\nport: 5432\npassword: hunter22\n" for number in (1, 2, 3))
    dispatcher.schedule([sent("hosts", name="postgres", instances=instances)])
    fail_instances({2}, "hosts")
    [found] = failures.read().told
    assert found.named(config("hosts")) == "h2:5432 of postgres h1:5432 +2"
    assert found.teams == []


def test_of_an_older_versions_copies_the_check_id_tells_which(mails: None) -> None:
    fail_instances({3})
    Config.objects.update(patched_with="1.")
    [found] = failures.read().told
    assert found.named(config("mails")) == "mail 3 of tcp_check mail 1 +14"
    assert found.teams == []


def test_an_instance_that_is_written_twice_hides_no_other(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("twice", name="tcp_check", instances=(mail(1), mail(1), mail(3)))])
    fail_instances({2}, "twice")
    [found] = failures.read().told
    assert found.named(config("twice")).startswith("mail 3 of tcp_check mail 1")


def test_the_last_good_run_is_of_what_fails(admin_client: Client, mails: None) -> None:
    one = config("mails")
    ids = list(one.instances.order_by("pk").values_list("check_id", flat=True))
    now = int(time.time())
    stats = [
        CheckStats(ids[0], 5.0, False, "")._replace(last_success=now - 300),
        CheckStats(ids[2], 5.0, True, "refused")._replace(last_success=now - 7200),
    ]
    Runner.objects.note({one.assignment.node_id: Answer(stats, 4)})
    Trouble.objects.note()
    page = admin_client.get(page_of("mails")).content.decode()
    assert re.search(r"Last good run</dt><dd><time[^>]*>2(?:\.0)?\s?h(?: 0 min)? ago", page.replace("\u202f", " ")), (
        page
    )


def test_what_has_just_recovered_fails_until_the_next_round_on_all_pages(
    admin_client: Client, shops: list[str]
) -> None:
    fail({"shop-0": "boom", "shop-1": "boom"})
    one = config("shop-0")
    good = CheckStats(one.instances.get().check_id, 5.0, False, "")
    Runner.objects.note({one.assignment.node_id: Answer([good], 4)})
    found = failures.read()
    assert (found.configs, [one.example for one in found.told]) == (2, ["boom"])
    rows = admin_client.get("/admin/checks/config/?trouble=failing").content.decode()
    assert rows.count("boom") >= 2
    Trouble.objects.note()
    assert failures.read().configs == 1


def test_one_configs_error_is_not_told_as_that_of_others(admin_client: Client, shops: list[str]) -> None:
    fail({"shop-0": "no route to shop-0.example", "shop-1": "no route to shop-1.example"})
    assert "Such as: <code" in text(admin_client)
    assert "failed, such as: no route to" in admin_client.get("/admin/").content.decode()
    fail({"shop-0": "no route", "shop-1": "no route"})
    assert "Such as" not in text(admin_client)
