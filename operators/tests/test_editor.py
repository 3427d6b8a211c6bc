"""The editor of configs in the admin says what is wrong with a text while it is written, and what to begin with."""

from typing import Any

import pytest
from django.test import Client

from checks import dispatcher
from checks.models import Config
from checks.sources import authored
from checks.sources.authored import ADMIN
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, operator, page_of, saved, superuser
from checks.wire import integrations

pytestmark = pytest.mark.django_db

REMARKS, TEMPLATE = CONFIGS + "remarks/", CONFIGS + "template/"
GOOD = "instances:\n  - url: http://shop\n    timeout: 5\n"


@pytest.fixture(autouse=True)
def _nodes(warm: None) -> None:
    report("ash")


def remarked(client: Client, yaml: str, check: str = "http_check", url: str = REMARKS) -> str:
    response = client.post(url, {"check": check, "yaml": yaml})
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


@pytest.mark.parametrize(
    ("yaml", "line", "kind", "told"),
    [
        ("instances:\n  - url: [http://shop\n", 2, "error", "Line 2"),
        ("instances:\n  - url: http://shop\n    url: http://mail\n", 3, "warning", "Line 3"),
        ("instanzes:\n  - url: http://shop\n", 1, "error", "instances"),
    ],
)
def test_it_says_what_is_wrong_and_on_which_line(yaml: str, line: int, kind: str, told: str) -> None:
    answer = remarked(superuser(), yaml)
    assert f'data-line="{line}"' in answer
    assert f'data-kind="{kind}"' in answer
    assert told in answer


def test_a_good_text_is_said_to_be_good_and_nothing_is_stored() -> None:
    assert "Nothing is wrong with it." in remarked(superuser(), GOOD)
    assert not Config.objects.exists()


def test_line_ends_of_browsers_count_as_one() -> None:
    assert 'data-line="3"' in remarked(superuser(), GOOD.replace("timeout: 5", "timeout: [").replace("\n", "\r\n"))


def test_a_mistake_is_found_before_the_check_is_named() -> None:
    client = superuser()
    assert "the check has no name" in remarked(client, GOOD, check="")
    assert 'data-line="3"' in remarked(client, GOOD.replace("5", "["), check="")


def test_a_key_that_others_spell_otherwise_is_remarked_on() -> None:
    client = superuser()
    for number in range(3):
        name = f"shop-{number}"
        saved(client, CONFIGS + "add/", key=name, check="own_check", yaml=GOOD.replace("shop", name))
    assert "timeout" in remarked(client, GOOD.replace("timeout", "timeuot"), check="own_check")


def test_the_text_that_is_edited_is_not_compared_with_itself() -> None:
    client = superuser()
    saved(client, CONFIGS + "add/", key="shop", check="http_check", yaml=GOOD)
    shop = config("shop")
    assert "Nothing is wrong with it." in remarked(client, GOOD, url=f"{REMARKS}?config={shop.pk}")


@pytest.mark.parametrize("rights", [(), ("view_config",), ("view_config", "change_config")])
def test_only_who_may_write_a_config_is_answered(rights: tuple[str, ...]) -> None:
    client = operator(*rights)
    assert client.post(REMARKS, {"check": "http_check", "yaml": GOOD}).status_code == 403
    assert client.get(TEMPLATE, {"check": "postgres"}).status_code == 403


def test_who_may_change_one_is_answered_about_that() -> None:
    saved(superuser(), CONFIGS + "add/", key="shop", check="http_check", yaml=GOOD)
    client = operator("view_config", "change_config")
    assert "Nothing is wrong" in remarked(client, GOOD, url=f"{REMARKS}?config={config('shop').pk}")
    dispatcher.schedule([sent("mail")])
    others = client.post(f"{REMARKS}?config={config('mail').pk}", {"yaml": GOOD})
    assert others.status_code == 403


@pytest.mark.parametrize("number", ["", "x", "999999999", "9" * 30])
def test_a_config_that_is_none_is_as_a_new_one(number: str) -> None:
    assert "Nothing is wrong" in remarked(superuser(), GOOD, url=f"{REMARKS}?config={number}")


def test_a_get_is_refused() -> None:
    assert superuser().get(REMARKS).status_code == 405


@pytest.mark.parametrize("check", authored.templates())
def test_each_template_is_of_a_known_check_and_has_no_mistake(check: str) -> None:
    assert check in integrations.known()
    assert "Nothing is wrong with it." in remarked(superuser(), authored.template_of(check), check=check)


def test_a_form_begins_with_the_template_of_the_check_that_is_asked_for() -> None:
    fields = superuser().get(CONFIGS + "add/", {"check": "postgres"}).context["adminform"].form.initial
    assert (fields["check"], fields["yaml"]) == ("postgres", authored.template_of("postgres"))


def test_a_check_without_a_template_begins_with_the_keys_that_others_have() -> None:
    dispatcher.schedule([sent("shop", name="own_check")])
    begun = superuser().get(TEMPLATE, {"check": "own_check"}).content.decode()
    assert begun.startswith(authored.BEGINNING)
    assert begun != authored.BEGINNING
    assert "shop" not in begun


@pytest.mark.parametrize("check", ["", "nobody_has_it", "../../../etc/passwd", "postgres.yaml", "\x00"])
def test_what_nobody_knows_begins_empty(check: str) -> None:
    assert superuser().get(TEMPLATE, {"check": check}).content.decode() == authored.BEGINNING


def test_the_form_offers_known_checks_and_those_of_the_cluster() -> None:
    dispatcher.schedule([sent("shop", name="own_check")])
    page = superuser().get(CONFIGS + "add/").content.decode()
    assert '<option value="own_check">' in page
    assert '<option value="postgres">' in page


def test_what_was_written_survives_a_form_with_a_mistake() -> None:
    page: Any = superuser().post(CONFIGS + "add/", {"key": "shop", "check": "http_check", "yaml": "instances: [\n"})
    assert "instances: [" in page.content.decode()
    assert page.context["adminform"].form.errors["yaml"]
    assert not Config.objects.filter(origins__source=ADMIN).exists()


def test_an_edited_config_keeps_its_own_text() -> None:
    client = superuser()
    saved(client, CONFIGS + "add/", key="shop", check="postgres", yaml=GOOD)
    assert client.get(page_of("shop")).context["adminform"].form.initial["yaml"] == GOOD
