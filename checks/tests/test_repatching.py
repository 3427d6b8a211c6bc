"""Configs that other options patched are patched again by the leader, a few at a time, on their nodes."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from checks import dispatcher, tasks
from checks.models import Config, Move, Origin
from checks.models.map import NotLeader
from checks.sources import FileSource, Report, files, origins, repatching, sync
from checks.sources.repatching import repatch
from checks.tests.cast import config, dangling, lead, owners, report, sent, versions
from checks.wire import options
from checks.wire import patching as wire
from clusteragent.lib import conf
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "REPLICA", "east")
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    tag("old", monkeypatch)
    report("ash", "birch", "cedar")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    return tmp_path


def tag(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have this extra tag."""
    monkeypatch.setattr(conf, "GLOBAL_TAGS", (name,))


def tagged(name: str) -> set[str]:
    """The origins whose configs have this tag in each instance."""
    found = set()
    for key, sent_ in Origin.objects.values_list("key", "config__wire"):
        texts = [base64.b64decode(each).decode() for each in json.loads(bytes(sent_))["instances"]]
        if all(f"- {name}\n" in text for text in texts):
            found.add(key)
    return found


def moves() -> list[tuple[str, str, str, str]]:
    return list(Move.objects.order_by("pk").values_list("source_node", "to_node", "reason", "actor"))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.yaml").write_text(f"cluster_check: true\ninstances: [{{host: {name}}}]\n")


def scan() -> Report:
    """A scan of a process that has just started."""
    return sync(sources=[FileSource()])


# Pace and place


def test_at_most_the_budget_is_patched_at_once_and_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"c{number:02}" for number in range(12)]
    dispatcher.schedule([sent(key) for key in keys])
    before = owners()
    Move.objects.all().delete()
    tag("new", monkeypatch)
    for number in (5, 10, 12):
        repatch()
        assert tagged("new") == set(keys[:number])
        assert tagged("old") == set(keys[number:])
    assert owners() == before
    assert moves() == [(before[key], before[key], "changed", "repatching") for key in keys]
    assert repatch() == []


def test_the_budget_is_a_share_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent(str(number)) for number in range(40)])
    tag("new", monkeypatch)
    monkeypatch.setattr(conf, "REBALANCE_BUDGET", 0.2)
    assert len(repatch()) == len(tagged("new")) == 8


def test_only_nodes_that_have_one_get_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one"), sent("two")])
    before = versions()
    tag("new", monkeypatch)
    repatch()
    assert {name for name, version in versions().items() if version != before[name]} == {"ash", "birch"}


def test_check_ids_and_search_follow_the_new_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one")])
    before = set(Config.objects.get().instances.values_list("check_id", flat=True))
    tag("new", monkeypatch)
    repatch()
    after = Config.objects.get()
    fresh = sent("one").patched
    assert set(after.instances.values_list("check_id", flat=True)) == set(fresh.check_ids) != before
    assert (after.digest, after.text, bytes(after.wire)) == (fresh.digest, fresh.text, fresh.wire)


def test_dangling_and_endpoint_configs_are_patched_without_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    Node.objects.update(schedulable=False)
    dispatcher.schedule([sent("endpoint", node_name="ash"), sent("lost")])
    since = Config.objects.get(origins__key="lost").dangling_since
    tag("new", monkeypatch)
    assert repatch() == []
    assert tagged("new") == {"endpoint", "lost"}
    assert (dangling(), Config.objects.get(origins__key="lost").dangling_since) == ({"lost"}, since)


def test_what_gets_the_same_bytes_is_only_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one", instances=("tags: [new]\n",)), sent("two")])
    monkeypatch.setattr(conf, "GLOBAL_TAGS", ("old", "new"))
    dispatcher.schedule([sent("three", instances=("a: 1",))])
    Move.objects.all().delete()
    before = versions()
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    monkeypatch.setattr(conf, "GLOBAL_TAGS", ("new", "old"))
    assert [move.name for move in repatch()] == ["http_check"]
    assert tagged("new") == {"one", "two", "three"}
    assert set(Config.objects.values_list("patched_with", flat=True)) == {options.fingerprint()}
    assert len([name for name in before if versions()[name] != before[name]]) == 1


# Releases


def written_by(writer: str, *keys: str) -> dict[str, bytes]:
    """Make configs as another release wrote them. Return their bytes."""
    made_with = options.fingerprint().replace(f"w{options.WRITER}-", writer)
    for key in keys:
        theirs = Config.objects.get(origins__key=key)
        theirs.wire = bytes(theirs.wire).replace(EMPTY_MAP, base64.b64encode(b"{ }"))
        theirs.patched_with, theirs.contents, theirs.fast_digest = made_with, "", ""
        theirs.save()
    return wires()


EMPTY_MAP = base64.b64encode(b"{}")


def wires() -> dict[str, bytes]:
    return {key: bytes(wire) for key, wire in Origin.objects.values_list("key", "config__wire")}


def test_what_an_older_release_wrote_is_written_anew_where_it_is_at_the_same_pace() -> None:
    keys = [f"c{number}" for number in range(7)]
    dispatcher.schedule([sent(key) for key in keys])
    right, before = wires(), owners()
    assert written_by("", *keys).items().isdisjoint(right.items())
    assert len(repatch()) == 5
    assert len(repatch()) == 2
    assert (wires(), owners(), repatch()) == (right, before, [])


def test_bytes_that_stay_the_same_are_noted_with_what_they_say() -> None:
    dispatcher.schedule([sent("one")])
    noted = Config.objects.values_list("contents", "fast_digest", "patched_with").get()
    Config.objects.update(contents="", fast_digest="", patched_with=f"{options.made_with()}0123456789abcdef")
    assert repatch() == []
    assert Config.objects.values_list("contents", "fast_digest", "patched_with").get() == noted


def test_what_a_later_release_wrote_is_left_as_it_is() -> None:
    dispatcher.schedule([sent("one"), sent("two")])
    later = written_by(f"w{options.WRITER + 1}-", "one")["one"]
    written_by("", "two")
    assert len(repatch()) == 1
    assert repatch() == []
    assert wires()["one"] == later


# Restarts


def test_a_restart_with_the_same_options_changes_nothing(folder: Path) -> None:
    write(folder, "one", "two")
    scan()
    origins.put("admin", "hand", config())
    before = (list(Config.objects.order_by("pk").values()), versions(), moves())
    assert (scan(), repatch(term=lead())) == (Report(), [])
    assert (list(Config.objects.order_by("pk").values()), versions(), moves()) == before


def test_a_restart_with_other_options_changes_nothing_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, *(f"c{number:02}" for number in range(8)))
    scan()
    before = owners()
    tag("new", monkeypatch)
    assert scan() == Report()
    assert tagged("new") == set()
    repatch()
    assert (len(tagged("new")), scan()) == (5, Report())
    repatch()
    assert (len(tagged("new")), owners(), scan()) == (8, before, Report())


def test_what_is_new_or_edited_has_the_new_tags_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "one", "two")
    scan()
    tag("new", monkeypatch)
    write(folder, "three")
    (folder / "two.yaml").write_text("cluster_check: true\ninstances: [{host: edited}]\n")
    scan()
    assert tagged("new") == {"two.yaml", "three.yaml"}


def test_what_was_written_by_hand_is_patched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    origins.put("admin", "hand", config(name="tcp_check"))
    origins.put("api:ci", "pipeline", config(name="http_check"))
    before = owners()
    tag("new", monkeypatch)
    repatch()
    assert (tagged("new"), owners()) == ({"hand", "pipeline"}, before)


def test_replicas_with_other_options_do_not_patch_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's options win. What another replica sends has its tags until the leader's next pass."""
    write(folder, "one")
    scan()
    tag("new", monkeypatch)
    repatch()
    wire = bytes(Config.objects.get().wire)
    for replica, tags in (("west", "old"), ("east", "new"), ("west", "old")):
        monkeypatch.setattr(conf, "REPLICA", replica)
        tag(tags, monkeypatch)
        scan()
        assert bytes(Config.objects.get().wire) == wire
    write(folder, "two")
    scan()
    assert tagged("old") == {"two.yaml"}
    tag("new", monkeypatch)
    repatch()
    assert tagged("new") == {"one.yaml", "two.yaml"}


def test_who_does_not_lead_patches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one")])
    over = lead()
    lead()
    tag("new", monkeypatch)
    with pytest.raises(NotLeader):
        repatch(term=over)
    assert tasks.repatch(over) == tasks.NOT_LEADER
    assert tagged("old") == {"one"}
    assert tasks.repatch(lead()) == "1 patched again"


# What meets what


def test_what_is_edited_meanwhile_is_left_as_it_was_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one")])
    tag("new", monkeypatch)
    write = repatching._write

    def edited_meanwhile(*args: Any) -> Any:
        tag("old", monkeypatch)
        dispatcher.schedule([sent("one", url="http://edited")])
        tag("new", monkeypatch)
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(repatching, "_write", edited_meanwhile)
        assert repatch() == []
    assert ("http://edited" in Config.objects.get().text, tagged("old")) == (True, {"one"})
    repatch()
    assert ("http://edited" in Config.objects.get().text, tagged("new")) == (True, {"one"})


def test_configs_that_become_the_same_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("plain", url="http://x"), sent("said", instances=("tags: [new]\nurl: http://x\n",))])
    assert Config.objects.count() == 2
    monkeypatch.setattr(conf, "GLOBAL_TAGS", ("new", "old"))
    repatch()
    assert Config.objects.count() == 1
    assert (set(Origin.objects.values_list("key", flat=True)), len(owners())) == ({"plain", "said"}, 2)
    assert set(owners().values()) == {"birch"}
    assert moves()[2:] == [("ash", "", "changed", "repatching")]


def test_configs_that_were_one_by_their_tags_part_at_the_next_scan(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "http_check")
    (folder / "http_check.d").mkdir()
    (folder / "http_check.d" / "said.yaml").write_text(
        "cluster_check: true\ninstances: [{host: http_check, tags: [old]}]\n"
    )
    scan()
    assert Config.objects.count() == 1
    tag("new", monkeypatch)
    repatch()
    assert scan().changed == ["http_check.d/said.yaml", "http_check.yaml"]
    assert tagged("old") == {"http_check.d/said.yaml"}
    assert tagged("new") == {"http_check.d/said.yaml", "http_check.yaml"}
    assert scan() == Report()


def test_what_can_t_be_patched_any_more_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("one"), sent("two")])
    broken = Config.objects.get(origins__key="one")
    Config.objects.filter(pk=broken.pk).update(original={**broken.original, "instances": ["- no map"]})
    tag("new", monkeypatch)
    repatch()
    assert (tagged("old"), tagged("new")) == ({"one"}, {"two"})
    assert repatch() == []


def test_what_was_written_by_hand_is_cut_and_joined_as_the_option_says(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = config(instances=("url: a\n", "url: b\n"))
    origins.put("admin", "hand", hand)
    origins.put("admin", "single", config())
    single = Config.objects.get(origins__key="single")
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    repatch()
    assert set(owners()) == {"hand#0", "hand#1", "single"}
    assert origins.original("admin", "hand") == hand
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    repatch()
    assert set(owners()) == {"hand", "single"}
    assert Config.objects.get(origins__key="single").wire == single.wire


def test_shards_are_patched_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    origins.put("admin", "hand", config(instances=("url: a\n", "url: b\n")))
    before = owners()
    tag("new", monkeypatch)
    repatch()
    assert (tagged("new"), owners()) == ({"hand#0", "hand#1"}, before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("CLUSTER_NAME", "prod"),
        ("ORCH_CLUSTER_ID", "id"),
        ("GLOBAL_TAGS", ()),
        ("KSM_SHARDING_ENABLED", True),
        ("INSTANCE_SHARDING_EXCLUDE_CHECKS", frozenset({"ntp"})),
    ],
)
def test_every_option_that_makes_bytes_counts(option: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = options.fingerprint()
    monkeypatch.setattr(conf, option, value)
    assert options.fingerprint() != before


@pytest.mark.parametrize(("option", "value"), [("CLUSTER_TAG_NAME", "other"), ("DISABLE_CLUSTER_NAME_TAG_KEY", True)])
def test_the_tag_of_the_cluster_s_name_counts_where_it_has_one(
    option: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = options.fingerprint()
    with monkeypatch.context() as unnamed:
        unnamed.setattr(conf, option, value)
        assert options.fingerprint() == before
    monkeypatch.setattr(conf, "CLUSTER_NAME", "prod")
    before = options.fingerprint()
    monkeypatch.setattr(conf, option, value)
    assert options.fingerprint() != before


def test_a_source_that_had_gone_before_is_put_right(folder: Path) -> None:
    write(folder, "ash")
    sync(sources=[FileSource()])
    stored = Config.objects.get()
    stored.original["source"] = "file:gone.yaml"
    stored.wire = wire.sent_by(bytes(stored.wire), "file:gone.yaml", "file")
    stored.patched_with = options.made_with() + "older"
    stored.save()
    before = moves()
    repatch()
    assert json.loads(bytes(Config.objects.get().wire))["source"] == "file:ash.yaml"
    assert moves() == before
