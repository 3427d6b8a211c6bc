"""Configs with different meanings are different configs, for this program and for node agents, even with equal hashes."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from checks import dispatcher
from checks.models import Config, Instance, Origin
from checks.sources import FileSource, files, sync
from checks.sources.repatching import repatch
from checks.tests.cast import owners, report, sent
from checks.wire import options, patching
from clusteragent.lib import conf
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CASES = Path(__file__).parents[2] / "tests" / "data" / "cases" / "init_shift"
PORT, BOTH = "port: 5432\n", "host: db\nport: 5432"
# Pairs of which every hash of agents is the same, or that of this program.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a key of the instance in init_config": (
        {"instances": ("host: db",), "init_config": PORT},
        {"instances": (BOTH,), "init_config": None},
    ),
    "init_config and logs": (
        {"init_config": "logs: []\n", "logs": None},
        {"init_config": None, "logs": "logs: []"},
    ),
    "metrics": ({"metric_config": "- a"}, {"metric_config": "- b"}),
    "cardinality of tags": ({"check_tag_cardinality": "low"}, {"check_tag_cardinality": "high"}),
    "a tag that is a number": ({"instances": ("tags: [1]",)}, {"instances": ("tags: ['1']",)}),
    "tags in init_config": (
        {"instances": ("host: db",), "init_config": "tags:\n- b\n- a\n"},
        {"instances": ("host: db\ntags: [b, a]",), "init_config": None},
    ),
}


@pytest.fixture(autouse=True)
def _nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    report("ash")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    return tmp_path


def stored(key: str) -> Config:
    return Config.objects.get(origins__key=key)


def bytes_of(key: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(stored(key).wire))
    return body


def init_config(key: str) -> str | None:
    text = bytes_of(key)["init_config"]
    return text and base64.b64decode(text).decode()


def peers_bytes(key: str, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sent(key, **fields).patched.wire)
    return body


def told_apart() -> int:
    """The number of configs, after checking that all their hashes differ."""
    found = list(Config.objects.all())
    fast = {patching.identity(bytes(config.wire))[0] for config in found}
    assert fast == {config.fast_digest for config in found}
    assert len(fast) == len({config.digest for config in found}) == len(found)
    ids = list(Instance.objects.values_list("check_id", flat=True))
    assert len(set(ids)) == len(ids)
    return len(found)


def test_two_files_whose_texts_run_together_are_two_configs(folder: Path) -> None:
    (folder / "pg.d").mkdir()
    for name in ("a.yaml", "b.yaml"):
        (folder / "pg.d" / name).write_text((CASES / name).read_text())
    assert sorted(sync(sources=[FileSource()]).added) == ["pg.d/a.yaml", "pg.d/b.yaml"]
    assert told_apart() == 2
    assert len(owners()) == 2
    assert (init_config("pg.d/a.yaml"), init_config("pg.d/b.yaml")) == ("service: web\n", "\n")


def test_an_edit_that_hashes_do_not_see_is_seen_by_agents(folder: Path) -> None:
    file = folder / "pg.yaml"
    before, seen = "", set()
    for number, name in enumerate(["a.yaml", "b.yaml", "a.yaml", "b.yaml"]):
        file.write_text((CASES / name).read_text())
        report_of_sync = sync(sources=[FileSource()])
        assert (report_of_sync.added, report_of_sync.changed)[number > 0] == ["pg.yaml"]
        assert told_apart() == 1
        assert stored("pg.yaml").fast_digest != before
        before = stored("pg.yaml").fast_digest
        seen.add(init_config("pg.yaml"))
    assert seen == {"service: web\n", "\n"}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_two_that_say_different_things_are_two(pair: tuple[Any, Any], turned: bool, at_once: bool) -> None:
    one, other = pair[::-1] if turned else pair
    first, second = sent("first", url="x", **one), sent("second", url="x", **other)
    for chunk in [[first, second]] if at_once else [[first], [second]]:
        dispatcher.schedule(chunk)
    assert told_apart() == 2
    assert bytes(stored("first").wire) == first.patched.wire
    assert (init_config("second") or "").count("\n") <= (peers_init(second) or "").count("\n") + 1


def peers_init(one: Any) -> str | None:
    text = json.loads(one.patched.wire)["init_config"]
    return text and base64.b64decode(text).decode()


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_no_edit_is_one_that_agents_do_not_see(pair: tuple[Any, Any], turned: bool) -> None:
    one, other = pair[::-1] if turned else pair
    version = Node.objects.get().config_version
    for fields in (one, other, one):
        dispatcher.schedule([sent("edited", url="x", **fields)])
        fast = stored("edited").fast_digest
        assert told_apart() == 1
        assert Node.objects.get().config_version != version
        dispatcher.schedule([sent("edited", url="x", **fields)])
        assert stored("edited").fast_digest == fast


def test_two_instances_of_an_endpoint_are_not_one() -> None:
    dispatcher.schedule([sent("two", instances=("a: 1", "b: 2"), node_name="ash")])
    dispatcher.schedule([sent("one", instances=("{a: 1, b: 2}",), node_name="ash")])
    assert told_apart() == 2


def test_very_many_that_look_alike_are_told_apart() -> None:
    keys = [f"k{number:02}: 1\n" for number in range(12)]
    for at in range(len(keys)):
        dispatcher.schedule(
            [sent(str(at), instances=("a: 1\n" + "".join(keys[:at]),), init_config="".join(keys[at:]) or None)]
        )
    assert told_apart() == len(keys)


def shifted(key: str, **fields: Any) -> Any:
    return sent(key, **{"instances": (BOTH,), "init_config": None, **fields})


@pytest.fixture
def _pair() -> None:
    dispatcher.schedule([sent("first", instances=("host: db",), init_config=PORT)])
    dispatcher.schedule([shifted("second")])


@pytest.mark.usefixtures("_pair")
class TestTheLaterOne:
    def test_keeps_its_bytes_when_the_first_is_gone(self) -> None:
        before = bytes_of("second")
        dispatcher.unschedule([("file", "first")])
        dispatcher.schedule([shifted("second")])
        dispatcher.schedule([shifted("second", replica="west")])
        assert bytes_of("second") == before

    def test_keeps_them_when_only_letters_change(self) -> None:
        dispatcher.schedule([sent("second", instances=(f"{BOTH}\ntags: [b, a]",), init_config=None)])
        dispatcher.schedule([sent("third", instances=(BOTH,), init_config="tags:\n- b\n- a\n")])
        assert told_apart() == 3
        kept = init_config("third")
        dispatcher.schedule([sent("third", instances=(f"# moved\n{BOTH}",), init_config="tags: [b, a]")])
        assert init_config("third") == kept == "\ntags:\n- b\n- a\n"

    def test_has_the_peers_bytes_when_it_is_edited(self) -> None:
        fields = {"instances": ("host: other",), "init_config": None}
        dispatcher.schedule([sent("second", **fields)])
        assert bytes_of("second") == peers_bytes("second", **fields)

    def test_is_joined_by_who_says_the_same_also_when_the_first_is_gone(self) -> None:
        dispatcher.schedule([shifted("third")])
        dispatcher.unschedule([("file", "first")])
        dispatcher.schedule([shifted("fourth")])
        assert set(Origin.objects.filter(config=stored("second")).values_list("key", flat=True)) == {
            "second",
            "third",
            "fourth",
        }
        assert told_apart() == 1

    def test_is_told_apart_with_other_tags_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conf, "GLOBAL_TAGS", ("new",))
        repatch()
        assert told_apart() == 2
        assert set(Config.objects.values_list("patched_with", flat=True)) == {options.fingerprint()}

    def test_is_not_written_again_while_nothing_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = bytes_of("second")
        dispatcher.unschedule([("file", "first")])
        monkeypatch.setattr(conf, "KSM_SHARDING_ENABLED", not conf.KSM_SHARDING_ENABLED)
        assert repatch() == []
        assert bytes_of("second") == before

    def test_may_take_the_place_of_the_first_and_the_other_way_round(self) -> None:
        dispatcher.schedule([shifted("first"), sent("second", instances=("host: db",), init_config=PORT)])
        assert told_apart() == 2


def test_one_that_an_older_release_wrote_is_told_apart_too() -> None:
    dispatcher.schedule([sent("first", instances=("host: db",), init_config=PORT)])
    Config.objects.update(contents="", fast_digest="", patched_with=f"{options.made_with()}0123456789abcdef")
    dispatcher.schedule([shifted("second")])
    repatch()
    assert told_apart() == 2


def test_who_says_the_same_as_what_an_older_release_wrote_joins_it() -> None:
    dispatcher.schedule([shifted("first")])
    Config.objects.update(contents="", fast_digest="", patched_with=f"{options.made_with()}0123456789abcdef")
    dispatcher.schedule([shifted("second")])
    assert Config.objects.get().origins.count() == 2
