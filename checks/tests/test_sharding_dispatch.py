"""Shards from the file to the node: a change of a config touches only the shards that changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from checks.dispatcher import Refused
from checks.models import Config, Move, Origin, Source
from checks.models.map import NotLeader
from checks.sources import FileSource, Report, files, origins, sync
from checks.tests.cast import config, counts, dangling, lead, owners, report
from checks.wire.sharding import KSM
from clusteragent.lib import conf
from tests import peer_cases

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CASES = {
    name: case for name, case in peer_cases.cases("sharding.json").items() if case["topic"] == "sharding.dispatcher"
}


@pytest.fixture(autouse=True)
def _sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    monkeypatch.setattr(conf, "KSM_SHARDING_ENABLED", True)
    monkeypatch.setattr(conf, "REPLICA", "east")
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    return tmp_path


def write(folder: Path, name: str, *hosts: str, more: str = "") -> None:
    instances = ", ".join(f"{{host: {host}}}" for host in hosts)
    (folder / f"{name}.yaml").write_text(f"cluster_check: true\ninstances: [{instances}]\n{more}")


def scan() -> Report:
    """A scan by a process without memory, as after a change of options."""
    return sync(sources=[FileSource()])


def keys() -> list[str]:
    return sorted(Origin.objects.values_list("key", flat=True))


def wires() -> dict[str, bytes]:
    return {key: bytes(wire) for key, wire in Origin.objects.values_list("key", "config__wire")}


def ids() -> dict[str, int]:
    return dict(Origin.objects.values_list("key", "config_id"))


def reasons() -> list[str]:
    return sorted(Move.objects.values_list("reason", flat=True))


def shop(number: int, name: str = "postgres") -> Any:
    return config(name=name, instances=tuple(f"host: h{each}" for each in range(number)))


def ksm(*collectors: str) -> Any:
    return config(name=KSM, instances=(json.dumps({"collectors": collectors}),))


# The peer's cases


def test_each_instance_is_placed_for_itself() -> None:
    case = CASES["TestPrepareShardSchedule_EachInstanceIndividuallyPlaced"]
    report(*case["input"]["nodes"])
    origins.put("file", "shop.yaml", shop(case["input"]["instances"]))
    assert len(owners()) == case["expected"]["shards"]
    assert (not dangling()) is case["expected"]["all_placed"]
    assert set(counts().values()) == {2}


def test_shards_dangle_while_there_is_no_node() -> None:
    case = CASES["TestPrepareShardSchedule_NoRunners"]
    origins.put("file", "ksm.yaml", ksm(*case["input"]["ksm"]))
    origins.put("file", "shop.yaml", shop(case["input"]["instance"]))
    expected = case["expected"]["ksm_shards"] + case["expected"]["instance_shards"]
    assert len(dangling()) == Config.objects.count() == expected


def test_all_shards_go_together(folder: Path) -> None:
    case = CASES["TestPrepareShardUnschedule"]
    collectors = ", ".join(case["input"]["ksm"])
    (folder / f"{KSM}.yaml").write_text(f"cluster_check: true\ninstances: [{{collectors: [{collectors}]}}]")
    write(folder, "shop", *map(str, range(case["input"]["instance"])))
    scan()
    assert Config.objects.count() == case["expected"]["ksm_removed"] + case["expected"]["instance_removed"]
    (folder / "shop.yaml").unlink()
    assert scan().removed == ["shop.yaml"]
    assert Config.objects.count() == case["expected"]["ksm_removed"]
    (folder / f"{KSM}.yaml").unlink()
    assert scan().removed == [f"{KSM}.yaml"]
    assert not Config.objects.exists()
    assert not Origin.objects.exists()


@pytest.mark.parametrize(
    "name",
    [
        "TestPrepareShardSchedule instance disabled",
        "TestPrepareShardSchedule ksm disabled",
        "TestPrepareShardSchedule ksm one group",
        "TestPrepareShardSchedule ksm other check",
    ],
)
def test_what_no_strategy_claims_is_dispatched_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = CASES[name]["input"]
    option = "KSM_SHARDING_ENABLED" if given["strategy"] == "ksm" else "INSTANCE_SHARDING_ENABLED"
    monkeypatch.setattr(conf, option, given["enabled"])
    original = shop(given["instances"]) if "instances" in given else ksm(*given.get("collectors", ("pods", "nodes")))
    if "name" in given:
        original = config(name=given["name"])
    sent = origins.put("file", "one.yaml", original).sent
    assert ([one.key for one in sent] != ["one.yaml"]) is CASES[name]["expected"]["handled"]


def test_a_change_of_the_leader_forgets_no_shard(folder: Path) -> None:
    """The peer's tracker of shards is emptied with its store (TestResetClearsShardedConfigs). Ours are rows."""
    report("ash", "birch")
    write(folder, "shop", "a", "b")
    sync(lead(), sources=[FileSource()])
    before = (owners(), wires())
    assert sync(lead(), sources=[FileSource()]) == Report()
    assert (owners(), wires()) == before


def test_a_leader_whose_term_is_over_cuts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    write(folder, "shop", "a", "b")
    scan()
    over = lead()
    lead()
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    admitted = origins.admit("file", "shop.yaml", shop(2))
    with pytest.raises(NotLeader):
        origins.send([admitted], origins.known("file"), source="file", term=over)
    with pytest.raises(NotLeader):
        origins.replace("file", admitted, term=over)
    assert keys() == ["shop.yaml"]


def test_the_peer_s_cases_of_the_dispatcher_are_all_here() -> None:
    assert not peer_cases.unread(CASES, __file__)


# Files that change


def test_a_file_that_grows_gets_new_shards_and_the_others_are_not_touched(folder: Path) -> None:
    report("ash", "birch")
    write(folder, "shop", "a", "b")
    assert scan() == Report(added=["shop.yaml"])
    before, wired, moved = owners(), wires(), Move.objects.count()
    assert set(before) == {"shop.yaml#0", "shop.yaml#1"}
    write(folder, "shop", "a", "b", "c", "d")
    assert scan() == Report(changed=["shop.yaml"])
    assert keys() == [f"shop.yaml#{number}" for number in range(4)]
    assert (before.items() <= owners().items(), wired.items() <= wires().items()) == (True, True)
    assert Move.objects.count() == moved + 2


def test_a_file_that_shrinks_loses_the_surplus(folder: Path) -> None:
    report("ash", "birch")
    write(folder, "shop", "a", "b", "c", "d")
    scan()
    before = owners()
    write(folder, "shop", "a", "b")
    assert scan() == Report(changed=["shop.yaml"])
    assert owners() == {key: before[key] for key in ("shop.yaml#0", "shop.yaml#1")}
    write(folder, "shop", "a")
    scan()
    assert keys() == ["shop.yaml"]


def test_of_an_edited_file_only_the_edited_shard_gets_other_bytes(folder: Path) -> None:
    report("ash", "birch", "cedar")
    write(folder, "shop", "a", "b", "c")
    scan()
    before, wired, same = owners(), wires(), ids()
    Move.objects.all().delete()
    write(folder, "shop", "a", "edited", "c")
    assert scan() == Report(changed=["shop.yaml"])
    changed = {key for key, wire in wires().items() if wire != wired[key]}
    assert (changed, owners(), ids(), reasons()) == ({"shop.yaml#1"}, before, same, ["changed"])


def test_a_part_of_all_shards_changes_them_where_they_are(folder: Path) -> None:
    report("ash", "birch", "cedar")
    write(folder, "shop", "a", "b", "c")
    scan()
    before, wired = owners(), wires()
    write(folder, "shop", "a", "b", "c", more="init_config: {proxy: none}\n")
    scan()
    assert owners() == before
    assert not wires().items() & wired.items()


# Options that change


def test_the_option_s_change_cuts_at_the_next_scan_and_joins_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    report("ash", "birch")
    write(folder, "shop", "a", "b")
    write(folder, "single", "a")
    scan()
    whole, single = wires(), ids()["single.yaml"]
    assert set(whole) == {"shop.yaml", "single.yaml"}
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    assert scan() == Report(changed=["shop.yaml"])
    assert keys() == ["shop.yaml#0", "shop.yaml#1", "single.yaml"]
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    assert scan() == Report(changed=["shop.yaml"])
    assert (wires(), ids()["single.yaml"]) == (whole, single)
    assert not dangling()


def test_when_shards_can_t_be_written_the_config_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole config is removed in the transaction that adds its shards."""
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    report("ash")
    write(folder, "shop", "a", "b")
    scan()
    before = owners()
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)

    def full(*_: object, **__: object) -> list[Move]:
        if Origin.objects.filter(key="shop.yaml").exists():
            return []
        raise OSError("No space left on device")

    monkeypatch.setattr(origins.dispatcher, "schedule", full)
    with pytest.raises(OSError, match="No space"):
        scan()
    assert owners() == before


def test_a_second_scan_changes_nothing(folder: Path) -> None:
    report("ash", "birch")
    write(folder, "shop", "a", "b", "c")
    scan()
    before = (wires(), owners(), Move.objects.count())
    assert scan() == Report()
    source = FileSource()
    assert (sync(sources=[source]), sync(sources=[source])) == (Report(), Report())
    assert (wires(), owners(), Move.objects.count()) == before


def test_another_replica_s_scan_takes_shards_over_untouched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report("ash")
    write(folder, "shop", "a", "b")
    scan()
    before = (wires(), Move.objects.count())
    monkeypatch.setattr(conf, "REPLICA", "west")
    assert scan() == Report()
    assert set(Origin.objects.values_list("scanned_by", flat=True)) == {"west"}
    assert (wires(), Move.objects.count()) == before


def test_another_replica_s_file_keeps_all_its_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "shop", "a", "b")
    scan()
    (folder / "shop.yaml").unlink()
    monkeypatch.setattr(conf, "REPLICA", "west")
    assert scan() == Report()
    assert keys() == ["shop.yaml#0", "shop.yaml#1"]


def test_shards_by_hash_come_change_and_go_with_their_file(folder: Path) -> None:
    report("ash", "birch")

    def asks(count: int, criteria: str = "namespace") -> Report:
        instance = f"{{shard_criteria: [{criteria}], shard_count: {count}}}"
        (folder / f"{KSM}.yaml").write_text(f"cluster_check: true\ninstances: [{instance}]")
        return scan()

    assert asks(3) == Report(added=[f"{KSM}.yaml"])
    assert keys() == [f"{KSM}.yaml#{number}" for number in range(3)]
    assert sorted(counts().values()) == [1, 2]
    before = owners()
    assert asks(2) == Report(changed=[f"{KSM}.yaml"])
    assert owners().items() <= before.items()
    # What can't be followed is said, and the check runs all the same.
    told = asks(1)
    assert told.errors == []
    assert [notice.warning for notice in told.warnings] == [
        "it asks for shards by hash and is dispatched whole: shard_count is not a whole number from 2 to 1000"
    ]
    assert keys() == [f"{KSM}.yaml"]
    assert not dangling()
    assert asks(1).changed == []
    assert (
        asks(2, "node")
        .warnings[0]
        .warning.endswith("shard_criteria is not a list of namespace or resource, each once at most")
    )
    (folder / f"{KSM}.yaml").unlink()
    scan()
    assert keys() == []


def test_who_sends_a_request_that_can_t_be_followed_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = config(name=KSM, instances=("shard_criteria: [namespace]\nshard_count: 1\n",))
    (whole,) = origins.admit("admin", "ksm", asking).sent
    again = origins.admit("admin", "ksm", asking, whole=whole.patched)
    for told in (origins.put("admin", "ksm", asking), again):
        assert "shard_count is not a whole number from 2" in told.warning
        assert told.problem == ""
        assert [one.key for one in told.sent] == ["ksm"]
    monkeypatch.setattr(conf, "KSM_SHARDING_ENABLED", False)
    assert origins.put("admin", "ksm", asking).warning == ""


def test_what_was_written_by_hand_is_edited_as_it_was_written() -> None:
    said = "shard_count: 3\nshard_criteria:\n- namespace\nskip_leader_election: true\n"
    origins.put("admin", "ksm", config(name=KSM, instances=(said,)))
    assert Config.objects.count() == 3
    assert origins.original("admin", "ksm").instances == (said,)


# Guards, and what is wrong


def test_a_file_of_many_shards_is_one_file_when_removals_are_judged(folder: Path) -> None:
    write(folder, "shop", *map(str, range(30)))
    write(folder, "single", "a")
    scan()
    (folder / "shop.yaml").unlink()
    assert scan() == Report(removed=["shop.yaml"])
    assert keys() == ["single.yaml"]


def test_removals_that_are_held_are_files(folder: Path) -> None:
    names = [f"c{number:02}" for number in range(12)]
    for name in names:
        write(folder, name, "a", "b")
    scan()
    for name in names[1:]:
        (folder / f"{name}.yaml").unlink()
    held = [f"{name}.yaml" for name in names[1:]]
    assert scan() == Report(held=held)
    assert (Source.objects.get(name="file").held_removals, Config.objects.count()) == (held, 24)
    assert sync(sources=[FileSource()], accept_removals=True) == Report(removed=held)
    assert keys() == ["c00.yaml#0", "c00.yaml#1"]


def test_a_broken_file_keeps_its_shards(folder: Path) -> None:
    write(folder, "shop", "a", "b")
    scan()
    before = wires()
    (folder / "shop.yaml").write_text("instances: [")
    assert [error.where for error in scan().errors] == ["shop.yaml"]
    assert wires() == before


def test_a_shard_that_can_t_be_patched_is_left_out_and_named(folder: Path) -> None:
    (folder / "shop.yaml").write_text(
        f"cluster_check: true\ninstances: [{{host: a}}, {{name: {'n' * 3000}}}, {{host: c}}]"
    )
    outcome = scan()
    assert outcome.added == ["shop.yaml"]
    assert keys() == ["shop.yaml#0", "shop.yaml#2"]
    (shown,) = Source.objects.get(name="file").errors
    assert shown["error"].startswith("1 of 3 shards left out; #1: shop: instance 1: its name is too long")
    assert scan().changed == []
    write(folder, "shop", "a", "b", "c")
    assert scan() == Report(changed=["shop.yaml"])
    assert keys() == ["shop.yaml#0", "shop.yaml#1", "shop.yaml#2"]


def test_a_config_none_of_whose_shards_can_be_patched_is_an_error(folder: Path) -> None:
    (folder / "shop.yaml").write_text(
        f"cluster_check: true\ninstances: [{{name: {'n' * 3000}}}, {{name: {'m' * 3000}}}]"
    )
    (shown,) = scan().errors
    assert shown.error.startswith("shop: instance 1: its name is too long")
    assert keys() == []


def test_a_key_that_looks_like_a_shard_s_is_refused() -> None:
    with pytest.raises(Refused, match="shop#1: a name that ends in # and a number is a shard's"):
        origins.put("api:ci", "shop#1", shop(1))
    origins.put("api:ci", "shop#one", shop(1))
    assert keys() == ["shop#one"]


def test_keys_that_begin_alike_are_not_confused() -> None:
    for key in ("shop", "shop#old", "shopping"):
        origins.put("api:ci", key, config(instances=(f"a: {key}", f"b: {key}")))
    assert [origin.key for origin in origins.origins("api:ci", "shop")] == ["shop#0", "shop#1"]
    known = origins.known("api:ci")
    assert [origins.known("api:ci", [key])[key] for key in known] == list(known.values())
    origins.put("api:ci", "shop", shop(1))
    assert keys() == ["shop", "shop#old#0", "shop#old#1", "shopping#0", "shopping#1"]


def test_more_than_a_chunk_is_cut_a_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins.dispatcher, "CHUNK", 5)
    report("ash", "birch")
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", False)
    admitted = [origins.admit("file", f"c{n}", config(instances=(f"a: {n}", f"b: {n}"))) for n in range(4)]
    origins.send(admitted, {}, source="file")
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    cut = [origins.admit("file", f"c{n}", config(instances=(f"a: {n}", f"b: {n}"))) for n in range(4)]
    origins.send(cut, origins.known("file"), source="file")
    assert keys() == [f"c{n}#{shard}" for n in range(4) for shard in range(2)]
    assert sum(counts().values()) == 8
