"""Titles: how people call configs, from the words of their authors, and commands that take them."""

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from checks import dispatcher
from checks.dispatcher import Sent
from checks.management import commandline
from checks.models import Config, Move
from checks.models.titles import MOST, title
from checks.sources import repatching
from checks.wire import patching
from checks.wire.patching import IntegrationConfig
from checks.wire.places import Call


def config(check: str, *instances: str, source: str = "") -> IntegrationConfig:
    return IntegrationConfig(name=check, instances=instances, cluster_check=True, source=source)


def titled(check: str, *instances: str, source: str = "") -> str:
    patched = patching.patch(config(check, *instances), [])
    return title(check, patched.calls, source)


def send(check: str, *instances: str, key: str = "", source: str = "file") -> Config:
    key = key or f"{check}.d/conf.yaml"
    sent = config(check, *instances, source=f"{source}:{key}")
    dispatcher.schedule([Sent(source, key, sent, patching.patch(sent, []))])
    return Config.objects.get(origins__key=key)


@pytest.mark.parametrize(
    ("check", "instance", "source", "called"),
    [
        ("http_check", "{name: shop, url: https://shop.example/}", "", "http_check shop"),
        ("openmetrics", "{namespace: carts, openmetrics_endpoint: http://carts:9/metrics}", "", "openmetrics carts"),
        ("tls", "{server: shop.example, port: 443}", "file:tls.d/all.yaml", "tls shop.example:443"),
        ("http_check", "{url: 'https://ann:pw@shop.example/health/?token=x'}", "", "http_check shop.example/health"),
        ("mongo", "{hosts: ['a.example:27017', b.example]}", "", "mongo a.example:27017"),
        ("postgres", "{host: '::1', port: 5432}", "", "postgres ::1"),
        ("postgres", "{host: 10.1.2.3}", "kubernetes:service/shop/db/postgres/0", "postgres shop/db"),
        ("disk", "{tags: [a]}", "file:disk.d/archive.yaml", "disk archive"),
        ("disk", "{tags: [a]}", "file:disk.d/conf.yaml", ""),
        ("disk", "{tags: [a]}", "file:disk.yaml", ""),
        ("http_check", "{name: shop, url: https://shop.example/}", "admin:mine", "http_check mine"),
        ("http_check", "{url: https://shop.example/}", "admin:http_check", "http_check shop.example"),
        ("disk", "", "api:shop:disks", ""),
        ("disk", "{host: {a: b}, url: null}", "", ""),
    ],
)
def test_a_title_is_the_instances_name_else_what_it_is_about(
    check: str, instance: str, source: str, called: str
) -> None:
    assert titled(check, instance, source=source) == called


def test_a_title_of_many_instances_says_how_many_more() -> None:
    assert titled("tls", "{server: a}", "{server: b}", "{server: c}") == "tls a +2"


@pytest.mark.parametrize("where", ["name: {}", "url: 'http://x/{}'", "host: {}"])
def test_a_title_shows_no_secret(where: str) -> None:
    said = titled("http_check", "{" + where.format("api_key=0123456789abcdef0123456789abcdef") + "}")
    assert "0123456789abcdef" not in said


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_any_words_make_one_short_line(check: str, name: str, place: str, source: str) -> None:
    said = title(check, [Call(name, place), Call("", "")], source)
    assert len(said) <= MOST
    assert said == " ".join(said.split())
    assert said.isprintable() or not (check + name + place + source).isprintable()


@pytest.mark.django_db
def test_configs_moves_and_plans_are_called_by_their_titles(warm: None) -> None:
    stored = send("postgres", "{name: orders, host: a}")
    assert str(stored) == "postgres orders"
    assert Move.objects.latest("pk").shown == "postgres orders" if Move.objects.exists() else True


@pytest.mark.django_db
def test_a_config_without_a_name_is_called_by_its_short_id() -> None:
    stored = send("disk", "{}")
    assert str(stored) == f"disk {stored.short_id}"


@pytest.mark.django_db
def test_an_edit_changes_the_title() -> None:
    send("postgres", "{name: orders}")
    assert str(send("postgres", "{name: carts}")) == "postgres carts"


@pytest.mark.django_db
def test_copies_of_an_older_version_get_their_titles() -> None:
    stored = send("postgres", "{name: orders}")
    Config.objects.update(title="", patched_with="1.x.w2-0")
    repatching.renew()
    stored.refresh_from_db()
    assert stored.title == "postgres orders"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["postgres orders", "postgres:orders", "orders"])
def test_commands_take_titles(name: str) -> None:
    stored = send("postgres", "{name: orders}")
    assert commandline.ids([name]) == [stored.pk]


@pytest.mark.django_db
def test_a_title_of_several_configs_is_refused_with_their_short_ids() -> None:
    one = send("postgres", "{name: orders, host: a}", key="postgres.d/a.yaml")
    other = send("postgres", "{name: orders, host: b}", key="postgres.d/b.yaml")
    with pytest.raises(CommandError, match="several configs are called orders") as refusal:
        call_command("why", "orders")
    assert one.short_id in str(refusal.value)
    assert other.short_id in str(refusal.value)


@pytest.mark.django_db
def test_an_unknown_title_is_named() -> None:
    with pytest.raises(CommandError, match="no config has the title, digest, check ID or short ID nothing"):
        commandline.ids(["nothing"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ord", ", did you mean postgres orders-1 or postgres orders-2?"),
        ("ORDERS postgres", ", did you mean postgres orders-1 or postgres orders-2?"),
        ("postgres order-1", ", did you mean postgres orders-1?"),
        ("oredrs-2", ", did you mean postgres orders-2?"),
        # Another number is another config.
        ("orders-3", ""),
        ("nothing", ""),
        (" ", ""),
    ],
)
def test_a_part_of_a_title_or_a_misspelt_one_asks_what_was_meant(name: str, meant: str) -> None:
    for number in (1, 2):
        send("postgres", f"{{name: orders-{number}}}", key=f"postgres.d/{number}.yaml")
    with pytest.raises(CommandError) as refusal:
        commandline.ids([name])
    assert str(refusal.value) == f"no config has the title, digest, check ID or short ID {name}{meant}"


@pytest.mark.django_db
def test_a_copy_of_an_older_version_is_not_named() -> None:
    send("postgres", "{name: orders}")
    Config.objects.update(patched_with="1.x.w2-0")
    with pytest.raises(CommandError, match=r"short ID order$"):
        commandline.ids(["order"])


@pytest.mark.django_db
def test_a_config_names_itself_by_its_title_where_that_is_enough() -> None:
    one = send("postgres", "{name: orders, host: a}", key="postgres.d/a.yaml")
    assert one.unique_name == "postgres orders"
    send("postgres", "{name: orders, host: b}", key="postgres.d/b.yaml")
    comma = send("postgres", "{name: 'a, b'}", key="postgres.d/c.yaml")
    for config in (one, comma):
        assert config.unique_name == config.short_id
        assert commandline.ids([config.unique_name]) == [config.pk]
