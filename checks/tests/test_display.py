"""Display copies: made when a config is stored, shown only if this version made them, and searches confirm no guess."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from checks import dispatcher
from checks.dispatcher import changes
from checks.explain import state
from checks.models import Config, Instance, Move, Origin, configs
from checks.models.configs import NOT_YET
from checks.models.edits import Edit
from checks.models.map import NotLeader
from checks.sources import repatching
from checks.tests.cast import lead, report, sent
from checks.wire import patching
from clusteragent.lib import scrub
from clusteragent.lib.shortids import short_id
from nodes.models import NodeEvent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

SECRET = "hunter22"
NAMED = f"name: postgres://u:{SECRET}@h/db\nhost: h\npassword: {SECRET}\n"
KEY = f"https://u:{SECRET}@git/shop"


def stored(key: str = KEY, **fields: Any) -> Config:
    report("ash")
    dispatcher.schedule([sent(key, **{"name": "postgres", "instances": (NAMED,)} | fields)])
    return Config.objects.get(origins__key=key)


def make_old() -> None:
    """Make the rows as an older version writes them: no short IDs, a weaker copy, a fingerprint of the options alone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checks_config SET text = %s, scrubbed = wire, short_id = '', patched_with = right(patched_with, 16)",
            [f"password: {SECRET}\n"],
        )
        cursor.execute("UPDATE checks_instance SET shown_name = '', short_id = ''")
        cursor.execute("UPDATE checks_origin SET shown = ''")


def everything_shown(config: Config) -> str:
    instances = [instance.shown_id(exact=exact) for instance in config.instances.all() for exact in (True, False)]
    return (
        json.dumps([config.display_text, instances, [str(origin) for origin in config.origins.all()], str(config)])
        + b"".join(state._document(True)).decode()
    )


def test_a_config_is_stored_with_what_people_see_of_it() -> None:
    config = stored()
    instance, origin = config.instances.get(), config.origins.get()
    assert config.short_id == short_id(config.digest)
    assert origin.shown == "https://u:********@git/shop"
    assert instance.shown_name == "postgres:postgres://u:********@h/db"
    assert instance.shown_id() == f"{instance.shown_name}:{short_id(instance.check_id)}"
    assert instance.shown_id(exact=True) == f"{instance.shown_name}:{instance.check_id.rpartition(':')[2]}"
    assert SECRET not in config.text + bytes(config.scrubbed).decode() + everything_shown(config)


def test_a_source_that_is_an_address_with_a_password_is_shown_without_it() -> None:
    dispatcher.schedule([changes.Sent("admin", KEY, (one := _from(KEY)), dispatcher.admit(one))])
    config = Config.objects.get()
    assert "source: admin:https://u:********@git/shop" in config.text
    assert json.loads(bytes(config.scrubbed))["source"] == "admin:https://u:********@git/shop"
    assert SECRET.encode() in bytes(config.wire)


def _from(key: str) -> Any:
    return sent(key, source="x").original.__class__(
        name="http_check", instances=("url: x\n",), init_config="{}", cluster_check=True, source=f"admin:{key}"
    )


def test_what_an_older_version_wrote_is_not_shown_until_it_is_made_anew() -> None:
    config = stored()
    before = {"text": config.text, "scrubbed": bytes(config.scrubbed), "short_id": config.short_id}
    make_old()
    config = Config.objects.get()
    assert SECRET in config.text
    assert SECRET not in everything_shown(config)
    assert not Config.objects.containing(SECRET)
    assert not Config.objects.containing("postgres:postgres")
    assert repatching.renew() == 1
    config = Config.objects.get()
    assert {"text": config.text, "scrubbed": bytes(config.scrubbed), "short_id": config.short_id} == before
    assert config.instances.get().shown_name == "postgres:postgres://u:********@h/db"
    assert config.origins.get().shown == "https://u:********@git/shop"
    assert repatching.renew() == 0


def test_making_copies_anew_changes_no_bytes_and_moves_nothing() -> None:
    config = stored()
    make_old()
    moves, wire, changed = Move.objects.count(), bytes(config.wire), config.changed
    repatching.repatch()
    config.refresh_from_db()
    assert (Move.objects.count(), bytes(config.wire), config.changed) == (moves, wire, changed)
    assert config.display_text != NOT_YET


def test_a_version_that_hides_more_makes_all_copies_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    config = stored()
    newer = scrub.VERSION + 1
    for module in (scrub, configs):
        monkeypatch.setattr(module, "VERSION", newer)
    assert config.display_text == NOT_YET
    assert not Config.objects.containing("host")
    assert repatching.renew() == 1
    config.refresh_from_db()
    assert "host: h" in config.display_text


def test_another_secret_key_makes_other_short_ids() -> None:
    before = stored().short_id
    with override_settings(SECRET_KEY="another key"):
        assert repatching.renew() == 1
        config = Config.objects.get()
        assert config.short_id == short_id(config.digest) != before
        assert Config.objects.ids_of([config.short_id], exact=False) == [config.pk]
        assert Config.objects.ids_of([config.instances.get().shown_id()], exact=False) == [config.pk]


def test_what_was_edited_meanwhile_keeps_its_own_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    stored()
    make_old()
    begun = repatching.patching.copies

    def edited(wire: bytes, secrets: patching.Secrets) -> tuple[bytes, str]:
        dispatcher.schedule([sent(KEY, name="postgres", instances=("host: other\n",))])
        return begun(wire, secrets)

    monkeypatch.setattr(repatching.patching, "copies", edited)
    repatching.renew()
    assert "host: other" in Config.objects.get().display_text
    assert "postgres:" not in Instance.objects.get().shown_name


def test_only_the_leader_makes_copies_anew() -> None:
    stored()
    make_old()
    with pytest.raises(NotLeader):
        repatching.renew(term=lead() - 1)


def test_an_edit_that_an_older_version_kept_is_shown_without_secrets() -> None:
    config = stored()
    Edit.objects.create(config_id=config.pk, text=f"instances:\n- bindpw: {SECRET}\n  host: h\n")
    [(_, _, diff)] = Edit.objects.changes(config.pk, config.text, 5)
    assert SECRET not in "".join(diff)
    dispatcher.schedule([sent(KEY, name="postgres", instances=("host: h\nport: 1\n",))])
    assert Edit.objects.latest("id").made_with == Config.objects.get().patched_with.rpartition(".")[0] + "."


@pytest.mark.parametrize("word", [SECRET, f"u:{SECRET}", SECRET[:4], f"postgres:postgres://u:{SECRET}@h/db", KEY])
def test_a_search_is_no_oracle(word: str) -> None:
    stored()
    assert not Config.objects.containing(word)
    assert not Config.objects.containing(word, exact=True)


def test_a_guessed_digest_or_check_id_proves_nothing_to_others() -> None:
    config = stored()
    check_id = config.instances.get().check_id
    for word in (config.digest, check_id, check_id.rpartition(":")[2]):
        assert not Config.objects.containing(word)
        with pytest.raises(LookupError):
            Config.objects.ids_of([word], exact=False)
    for word in (config.digest, check_id):
        assert list(Config.objects.containing(word, exact=True)) == [config]
    for word in (config.short_id, config.instances.get().shown_id(), config.instances.get().short_id):
        assert list(Config.objects.containing(word)) == [config]
        assert Config.objects.ids_of([word]) == Config.objects.ids_of([word], exact=False) == [config.pk]


@pytest.mark.parametrize("kind", [NodeEvent.Kind.NOT_RUNNING, NodeEvent.Kind.QUARANTINED])
def test_an_event_about_a_config_names_it_by_its_short_id(kind: str) -> None:
    event = NodeEvent(node_name="ash", kind=kind, cause="my check 3fa9c0ffee")
    assert event.told == f"my check {short_id('3fa9c0ffee')}"


def test_a_name_that_grows_when_it_is_scrubbed_still_finds_room() -> None:
    name = "pw=x;" * 380
    config = stored(instances=(f"name: '{name}'\n",))
    assert len(config.instances.get().shown_name) <= 600


def test_short_ids_are_keyed() -> None:
    with override_settings(SECRET_KEY="one"):
        first = short_id("3fa9")
    with override_settings(SECRET_KEY="two"):
        assert short_id("3fa9") != first
    assert first.startswith("k")
    assert short_id("") == ""
    assert Origin.objects.count() == 0
