"""Configs that are written by hand and dispatched in shards: operators see, edit and remove them as one."""

import json
from typing import Any

import pytest
from django.test import Client

from checks.models import Config, Move, Origin, Source
from checks.tests.cast import owners, report
from checks.tests.operators import CONFIGS, act, act_confirmed, config, page_of, saved, superuser
from checks.wire.sharding import KSM
from clusteragent.lib import conf

pytestmark = pytest.mark.django_db

YAML = "init_config:\n  proxy: none\ninstances:\n- url: http://shop\n- timeout: 010\n  url: http://mail\n"


@pytest.fixture(autouse=True)
def _sharding(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    monkeypatch.setattr(conf, "KSM_SHARDING_ENABLED", True)
    report("ash", "birch")


def save(client: Client, url: str = CONFIGS + "add/", **fields: str) -> Any:
    return saved(client, url, **{"key": "shop", "check": "http_check", "yaml": YAML} | fields)


def keys() -> list[str]:
    return sorted(Origin.objects.values_list("key", flat=True))


def form_of(client: Client, key: str) -> dict[str, Any]:
    return dict(client.get(page_of(key)).context["adminform"].form.initial)


def test_what_is_written_by_hand_is_cut_and_each_page_names_its_origin() -> None:
    client = superuser()
    save(client)
    assert owners() == {"shop#0": "ash", "shop#1": "birch"}
    assert "admin:shop#1" in client.get(page_of("shop#1")).content.decode()


def test_the_page_of_any_shard_edits_the_whole() -> None:
    client = superuser()
    save(client)
    before, pk = owners(), config("shop#0").pk
    for key in ("shop#0", "shop#1"):
        assert form_of(client, key) == {"key": "shop", "check": "http_check", "yaml": YAML}
    save(client, page_of("shop#1"), yaml=YAML.replace("010", "011") + "- url: http://new\n")
    assert keys() == ["shop#0", "shop#1", "shop#2"]
    assert "timeout: 9\n" in config("shop#1").text
    assert (owners().items() >= before.items(), config("shop#0").pk) == (True, pk)
    save(client, page_of("shop#1"), yaml="instances:\n- url: http://one\n")
    assert keys() == ["shop"]


def test_the_cluster_s_state_written_by_hand_is_edited_as_one() -> None:
    client = superuser()
    whole = f"instances:\n- {json.dumps({'collectors': ['pods', 'jobs', 'nodes']})}\n"
    save(client, check=KSM, yaml=whole)
    assert keys() == ["shop#0", "shop#1", "shop#2"]
    shown = form_of(client, "shop#2")["yaml"]
    assert shown == whole
    Origin.objects.update(written="", written_hash="")
    assert "collectors:\n  - jobs\n  - nodes\n  - pods\n" in form_of(client, "shop#2")["yaml"]
    before = sorted(Config.objects.values_list("pk", "digest"))
    save(client, page_of("shop#2"), check=KSM, yaml=shown)
    assert sorted(Config.objects.values_list("pk", "digest")) == before


def test_a_name_with_shards_is_taken_and_a_shard_s_name_is_not_given() -> None:
    client = superuser()
    save(client)
    for name, error in (("shop", "There is a config of this name."), ("new#1", "those of shards")):
        (shown,) = save(client, key=name, check="tcp_check").context["adminform"].form.errors["key"]
        assert error in shown
    assert keys() == ["shop#0", "shop#1"]


def test_unscheduling_one_shard_says_that_it_takes_all_and_does() -> None:
    client = superuser()
    save(client)
    page = act(client, "unschedule", ["shop#1"])
    assert "1 config more: a config goes with all its shards." in page
    assert ("admin:shop#0" in page, len(owners())) == (True, 2)
    assert "2 configs unscheduled." in act_confirmed(client, "unschedule", ["shop#1"])
    assert not Config.objects.exists()
    assert {move.actor for move in Move.objects.filter(reason=Move.Reason.UNSCHEDULED)} == {"olga"}


def test_a_request_for_shards_that_can_t_be_followed_is_a_warning() -> None:
    client = superuser()
    said = {"shard_criteria": ["namespace"], "shard_count": 1}
    save(client, check=KSM, yaml=f"instances:\n- {json.dumps(said)}\n")
    (told,) = Source.objects.get(name="admin").warnings
    assert told["where"] == "shop"
    assert told["warning"].startswith("it asks for shards by hash and is dispatched whole: shard_count")
