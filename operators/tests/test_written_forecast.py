"""Saving a config by hand says what that does: beside the text, and on a page of its own where that was not shown yet."""

import re
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from acts.models import Act
from checks import dispatcher
from checks.models import Config, Cost
from checks.models.orders import Rule
from checks.sources import authored
from checks.tests.cast import owners, report
from checks.tests.operators import CONFIGS, config, confirmed, opened, page_of, saved, superuser
from clusteragent.lib import conf
from nodes.models import Hearing, Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

YAML = "instances:\n  - url: http://shop\n"
ADDED = "1 config would be added, on ash. The load of ash would go from 0 % to about 25 %."
ADD, REMARKS = CONFIGS + "add/", CONFIGS + "remarks/"


def fields(**given: str) -> dict[str, str]:
    return {"key": "shop", "check": "http_check", "yaml": YAML} | given


def live(client: Client, url: str = REMARKS, **given: str) -> str:
    """What the form says beside the text."""
    response = client.post(url, fields(**given))
    assert response.status_code == 200
    return " ".join(response.content.decode().replace("<p>", " ").replace("</p>", " ").split())


def seen_live(client: Client, url: str = REMARKS, **given: str) -> str:
    """What the form sends of what it showed; empty if that is nothing."""
    found = re.search('name="shown" value="(.*?)"', live(client, url, **given))
    return found[1] if found else ""


def words(response: Any) -> str:
    """What the page says that asks."""
    assert response.status_code == 200
    question = response.context["question"]
    return " ".join([*question.worse, *question.sentences]).replace("\u202f", " ")


def stored(client: Client, **given: str) -> Config:
    assert saved(client, ADD, **fields(**given)).status_code == 302
    return config(given.get("key", "shop"))


def test_a_new_config_that_was_not_shown_yet_is_shown_before_it_is_saved() -> None:
    """To who presses Save before the forecast came, and to a browser without scripts."""
    report("ash")
    client = superuser()
    assert words(client.post(ADD, fields())) == ADDED
    assert not Config.objects.exists()
    confirmed(client, ADD, **fields())
    assert owners() == {"shop": "ash"}


def only_zone_b_runs(check: str) -> None:
    Rule.objects.create(name="b", check_pattern=check, required={"zone": "b"})


def test_a_new_config_is_told_its_node_beside_the_text_and_saved_without_being_asked_about_twice() -> None:
    report("ash")
    client = superuser()
    assert ADDED in live(client)
    assert not Config.objects.exists()
    assert client.post(ADD, fields(shown=seen_live(client))).status_code == 302
    assert owners() == {"shop": "ash"}


@pytest.mark.parametrize("given", [{"yaml": YAML + "    timeout: 5\n"}, {"check": "tcp_check"}, {"key": "mail"}])
def test_what_was_shown_of_another_text_does_not_count(given: dict[str, str]) -> None:
    report("ash")
    client = superuser()
    assert words(client.post(ADD, fields(shown=seen_live(client), **given))) == ADDED
    assert not Config.objects.exists()


def test_nothing_is_foreseen_before_the_name_and_the_text_are_whole() -> None:
    report("ash")
    client = superuser()
    for given in ({"key": ""}, {"key": "shop#1"}, {"check": ""}, {"yaml": "instances: ["}):
        assert "added" not in live(client, **given)
    stored(client)
    assert "changed" not in live(client), "the name is taken"


def test_what_would_run_nowhere_wants_its_name() -> None:
    report("ash")
    only_zone_b_runs("http_check")
    client = superuser()
    assert "1 config would run nowhere." in live(client)
    page = client.post(ADD, fields())
    told = words(page)
    assert "1 config would run nowhere. " in told
    assert "Why it would run nowhere: no node can have it: " in told
    assert page.context["word"] == "shop"
    assert page.context["tables"][0].rows == [("http_check shop", "not there", "nobody")]
    assert not Config.objects.exists()
    assert "type shop to confirm it" in client.post(ADD, fields(seen=page.context["seen"], typed="2")).content.decode()
    assert Act.objects.get().verb == Act.Verb.REFUSE
    confirmed(client, ADD, **fields())
    assert config("shop").dangling_since


def test_a_text_that_changed_since_it_was_shown_is_asked_for_again() -> None:
    report("ash")
    only_zone_b_runs("http_check")
    client = superuser()
    seen = client.post(ADD, fields()).context["seen"]
    page = client.post(ADD, fields(seen=seen, typed="shop", yaml=YAML + "    timeout: 5\n"))
    assert "something changed" in page.content.decode()
    assert not Config.objects.exists()


def test_an_edit_that_stays_on_its_node_restarts_it_there() -> None:
    report("ash")
    client = superuser()
    shop = stored(client)
    url = f"{REMARKS}?config={shop.pk}"
    edited = YAML + "    timeout: 5\n"
    told = "1 config would change: ash would stop the old one and start the new one."
    assert told in live(client, url, yaml=edited)
    assert words(client.post(page_of("shop"), opened(client, page_of("shop")) | fields(yaml=edited))) == told
    assert config("shop").digest == shop.digest
    assert (
        client.post(
            page_of("shop"),
            opened(client, page_of("shop")) | fields(yaml=edited, shown=seen_live(client, url, yaml=edited)),
        ).status_code
        == 302
    )
    assert config("shop").digest != shop.digest


def test_the_form_of_a_stored_config_says_at_once_what_saving_it_would_do() -> None:
    report("ash")
    client = superuser()
    assert "load, input changed" not in client.get(ADD).content.decode()
    stored(client)
    assert "load, input changed" in client.get(page_of("shop")).content.decode()
    assert "load, input changed" in client.post(ADD, fields(key="shop")).content.decode(), "it came back with an error"


def test_a_rule_that_would_take_it_from_its_node_since_it_was_shown_is_shown_first() -> None:
    report("ash", "birch")
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    client = superuser()
    shop = stored(client)
    dispatcher.reassign([shop.pk], "ash", actor="eve")
    edited = opened(client, page_of("shop")) | fields(yaml=YAML + "    timeout: 5\n")
    edited["shown"] = seen_live(client, f"{REMARKS}?config={shop.pk}", **edited)
    only_zone_b_runs("http_check")
    assert words(client.post(page_of("shop"), edited)).startswith("1 config would change and move from ash to birch. ")
    assert config("shop").digest == shop.digest


def test_a_text_that_means_the_same_changes_nothing() -> None:
    report("ash")
    client = superuser()
    shop = stored(client)
    told = live(client, f"{REMARKS}?config={shop.pk}", yaml="# of the shop\n" + YAML)
    assert "Nothing that runs would change." in told


def test_an_edit_that_its_node_may_not_run_moves() -> None:
    report("ash", "birch")
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    only_zone_b_runs("tcp_check")
    client = superuser()
    stored(client, key="mail", yaml=YAML.replace("shop", "mail"))
    shop = stored(client)
    stays = owners()["shop"]
    if stays == "birch":
        dispatcher.reassign([shop.pk], "ash", actor="eve")
    told = words(client.post(page_of("shop"), opened(client, page_of("shop")) | fields(check="tcp_check")))
    assert "1 config would change and move from ash to birch." in told
    assert config("shop").name == "http_check"
    shown = seen_live(client, f"{REMARKS}?config={shop.pk}", check="tcp_check")
    assert (
        client.post(
            page_of("shop"), opened(client, page_of("shop")) | fields(check="tcp_check", shown=shown)
        ).status_code
        == 302
    )
    dispatcher.move_misplaced()
    assert owners()["shop"] == "birch"


def test_a_form_does_not_send_what_must_be_typed() -> None:
    report("ash")
    only_zone_b_runs("http_check")
    client = superuser()
    assert seen_live(client, REMARKS) == ""
    assert client.post(ADD, fields(shown="")).status_code == 200
    assert not Config.objects.exists()


def test_what_another_source_gives_already_is_named() -> None:
    report("ash")
    dispatcher.schedule([authored.written("web-1.yaml", "http_check", YAML, source="file")])
    told = live(superuser())
    assert "file:web-1.yaml gives the same already, http_check shop: it runs once, for both." in told
    assert "added" not in told


def test_an_edit_that_becomes_what_another_source_gives_takes_its_config_away() -> None:
    report("ash")
    client = superuser()
    stored(client, key="mail", yaml=YAML.replace("shop", "mail"))
    stored(client)
    told = words(client.post(page_of("mail"), opened(client, page_of("mail")) | fields(key="mail")))
    assert "1 config would be taken away from ash." in told
    assert "admin:shop gives the same already" in told
    confirmed(client, page_of("mail"), **fields(key="mail"))
    assert Config.objects.count() == 1


def test_a_config_that_runs_nowhere_as_now_needs_no_number() -> None:
    report("ash")
    only_zone_b_runs("http_check")
    client = superuser()
    confirmed(client, ADD, **fields())
    url = f"{REMARKS}?config={config('shop').pk}"
    edited = opened(client, page_of("shop")) | fields(yaml=YAML + "    timeout: 5\n")
    assert "1 config would run nowhere, as now." in live(client, url, **edited)
    assert client.post(page_of("shop"), edited | {"shown": seen_live(client, url, **edited)}).status_code == 302


def test_a_paused_config_is_said_to_stay_so() -> None:
    report("ash")
    client = superuser()
    dispatcher.pause([stored(client).pk], actor="eve")
    told = live(client, f"{REMARKS}?config={config('shop').pk}", yaml=YAML + "    timeout: 5\n")
    assert "1 config would be paused: nobody runs it until it is resumed." in told
    assert "nowhere" not in told


def test_an_endpoint_check_runs_on_its_node_alone() -> None:
    report("ash", "birch")
    client = superuser()
    assert "1 config would be added, on birch." in live(client, yaml=YAML + "node_name: birch\n")
    told = live(client, yaml=YAML + "node_name: oak\n")
    assert "1 config would run nowhere." in told
    assert "Why it would run nowhere: it checks an endpoint of oak, and no node of this name reports." in told


def test_the_warm_up_is_named() -> None:
    report("ash")
    Hearing.objects.update(warmup=True)
    told = live(superuser())
    assert "The warm-up is not over: until then nothing new is placed." in told


def test_a_config_that_is_cut_otherwise_says_what_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    report("ash")
    client = superuser()
    two = YAML + "  - url: http://mail\n"
    shop = stored(client, yaml=two)
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    told = live(client, f"{REMARKS}?config={shop.pk}", yaml=two)
    assert "2 configs would be added, on ash." in told
    assert "1 config would be taken away from ash." in told


def measure(**workers: float) -> None:
    for key, needed in workers.items():
        Cost.objects.create(config=config(key), workers_needed=needed, seconds=1, measured_at=Now())


def test_the_load_is_foreseen_by_what_others_of_the_check_cost() -> None:
    report("ash", "birch")
    client = superuser()
    Node.objects.filter(name="birch").update(schedulable=False)
    stored(client)
    measure(shop=0.4)
    told = live(client, key="mail", yaml=YAML.replace("shop", "mail"))
    assert "The load of ash would go from 10 % to about 20 %." in told
    assert "assumed" not in told


def test_of_several_nodes_the_highest_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    report("ash", "birch")
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    told = words(superuser().post(ADD, fields(yaml=YAML + "  - url: http://mail\n")))
    assert (
        told
        == "2 configs would be added, on ash and birch. The highest load of a node would go from 0 % to about 25 %."
    )


def test_loads_that_are_guesses_are_said_to_be() -> None:
    report("ash")
    client = superuser()
    stored(client)
    told = live(client, key="mail", yaml=YAML.replace("shop", "mail"))
    assert "The load of ash would go from 25 % to about 50 %. Loads are assumed, a worker for each config: " in told


def test_what_a_moving_config_leaves_counts() -> None:
    report("ash", "birch")
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    client = superuser()
    for key in ("shop", "mail", "news"):
        stored(client, key=key, yaml=YAML.replace("shop", key))
    dispatcher.reassign([config(key).pk for key in ("shop", "mail", "news")], "ash", actor="eve")
    measure(shop=1.2, mail=0.4, news=0.4)
    only_zone_b_runs("tcp_check")
    told = live(client, f"{REMARKS}?config={config('shop').pk}", check="tcp_check")
    assert (
        "1 config would change and move from ash to birch. The load of birch would go from 0 % to about 30 %." in told
    )


def test_what_looks_mistaken_is_asked_about_before_it_is_saved() -> None:
    report("ash")
    client = superuser()
    odd = YAML + "    timeoutt: 5\n"
    assert "Line 3: " in live(client, yaml=odd)
    assert seen_live(client, yaml=odd) == ""
    page = client.post(ADD, fields(yaml=odd, shown=seen_live(client)))
    assert "timeoutt" in words(page)
    assert page.context["word"] == ""
    assert not Config.objects.exists()
    confirmed(client, ADD, **fields(yaml=odd))
    assert owners() == {"shop": "ash"}
