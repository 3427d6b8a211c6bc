"""Syncs of folders of real files, and the guards of removals."""

import base64
import gc
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from checks.dispatcher import Sent
from checks.models import Assignment, Config, Move, Origin, Source, SourceScan
from checks.models.map import NotLeader, remove_configs
from checks.sources import FileSource, Report, SyncUnderWay, files, origins, sync
from checks.sources.source import Scan
from checks.tests.cast import lead, owners, report, versions
from clusteragent.lib import conf, locks
from tests.table import table

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nodes(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster at work, replica east leading, and files that settle at once."""
    monkeypatch.setattr(conf, "REPLICA", "east")
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    report("ash", "birch", "cedar")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    confd = tmp_path / "conf.d"
    confd.mkdir()
    monkeypatch.setattr(conf, "CONFD", (confd,))
    return confd


@pytest.fixture
def source() -> FileSource:
    return FileSource()


def write(folder: Path, *names: str, text: str = "cluster_check: true\ninstances: [{url: NAME}]\n") -> None:
    for name in names:
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("NAME", name))


def keys() -> set[str]:
    return set(Origin.objects.filter(source="file").values_list("key", flat=True))


def instances(key: str) -> list[str]:
    """An origin's instances as node agents get them."""
    wire = json.loads(bytes(Config.objects.get(origins__key=key).wire))
    return [base64.b64decode(instance).decode() for instance in wire["instances"]]


def row() -> Source:
    return Source.objects.get(name="file")


def age_scans(replica: str, by: timedelta = timedelta(minutes=10, seconds=1)) -> None:
    SourceScan.objects.filter(replica=replica).update(scanned_at=Now() - by)


# New, changed, gone


def test_what_is_new_is_placed_what_changed_stays_and_what_is_gone_is_removed(folder: Path, source: FileSource) -> None:
    write(folder, "one", "two", "three")
    first = sync(sources=[source])
    assert first == Report(added=["one.yaml", "three.yaml", "two.yaml"])
    before = owners()
    assert set(before) == {"one.yaml", "two.yaml", "three.yaml"}
    write(folder, "two", text="cluster_check: true\ninstances: [{url: edited}]\n")
    (folder / "three.yaml").unlink()
    write(folder, "four")
    assert sync(sources=[source]) == Report(added=["four.yaml"], changed=["two.yaml"], removed=["three.yaml"])
    assert keys() == {"one.yaml", "two.yaml", "four.yaml"}
    assert {key: owners()[key] for key in ("one.yaml", "two.yaml")} == {key: before[key] for key in
                                                                      ("one.yaml", "two.yaml")}  # fmt: skip
    assert instances("two.yaml") == ["empty_default_hostname: true\nurl: edited\n"]


def test_an_empty_sync_writes_no_move(folder: Path, source: FileSource) -> None:
    write(folder, "one")
    sync(sources=[source])
    Move.objects.all().delete()
    assert sync(sources=[source]) == Report()
    assert not Move.objects.exists()


def test_node_agents_get_of_a_file_what_their_own_reader_makes_of_it(folder: Path, source: FileSource) -> None:
    write(
        folder,
        "odd",
        text="init_config: &base {at: 12:30:45, on: yes}\ncluster_check: true\ninstances:\n"
        "  - {<<: *base, a: 010, b: 1e3, c: 1.10, d: ~, e: 2024-01-01, f: =, g: 'é', h: 22:22, tags: &tags [x]}\n"
        "  - {tags: *tags, port: '0123'}\n",
    )
    sync(sources=[source])
    assert instances("odd.yaml") == [
        'true: true\na: 8\nat: "12:30:45"\nb: 1000\nc: 1.1\nd: null\ne: "2024-01-01"\nempty_default_hostname: true\n'
        'f: =\ng: é\nh: "22:22"\ntags:\n- x\n',
        'empty_default_hostname: true\nport: "0123"\ntags:\n- x\n',
    ]
    wire = json.loads(bytes(Config.objects.get().wire))
    assert base64.b64decode(wire["init_config"]).decode() == 'true: true\nat: "12:30:45"\n'
    assert (wire["provider"], wire["source"]) == ("file", "file:odd.yaml")


def test_a_replica_whose_folder_has_another_path_changes_nothing(
    folder: Path, source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "one", "two")
    sync(sources=[source])
    wires = [bytes(wire) for wire in Config.objects.order_by("pk").values_list("wire", flat=True)]
    elsewhere = folder.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(conf, "CONFD", (elsewhere,))
    assert sync(sources=[FileSource()]) == Report()
    assert [bytes(wire) for wire in Config.objects.order_by("pk").values_list("wire", flat=True)] == wires


def test_unchanged_files_are_read_once_by_a_process(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "good", "other")
    write(folder, "broken", text="instances: {a: b}")
    write(folder, "local", text="instances: [{}]")
    sync(sources=[source])
    monkeypatch.delattr(files, "parse")
    again = sync(sources=[source])
    assert [error.where for error in again.errors] == ["broken.yaml"]
    assert again.other_checks == 1


def test_what_the_store_lost_is_sent_again(folder: Path, source: FileSource) -> None:
    write(folder, "one")
    sync(sources=[source])
    remove_configs([Config.objects.get().pk])
    assert sync(sources=[source]).added == ["one.yaml"]
    assert keys() == {"one.yaml"}


def test_a_configmap_swap_is_an_edit(folder: Path, source: FileSource) -> None:
    for version in ("first", "second"):
        (folder / f"..{version}").mkdir()
        for name in ("a.yaml", "b.yaml"):
            (folder / f"..{version}" / name).write_text(f"cluster_check: true\ninstances: [{{{name[0]}: {version}}}]")
    (folder / "..data").symlink_to("..first")
    for name in ("a.yaml", "b.yaml"):
        (folder / name).symlink_to(f"..data/{name}")
    assert sync(sources=[source]).added == ["a.yaml", "b.yaml"]
    before = owners()
    (folder / "..data_tmp").symlink_to("..second")
    (folder / "..data_tmp").rename(folder / "..data")
    assert sync(sources=[source]) == Report(changed=["a.yaml", "b.yaml"])
    assert instances("a.yaml") == ["a: second\nempty_default_hostname: true\n"]
    assert owners() == before


# What is not dispatched


def test_templates_and_excluded_checks_are_shown_and_never_dispatched(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "EXCLUDE_CHECKS", frozenset({"excluded"}))
    write(folder, "excluded", "dispatched")
    write(folder, "redis", text="ad_identifiers: [redis]\ninstances: [{host: '%%host%%'}]")
    write(folder, "cpu", text="instances: [{}]")
    outcome = sync(sources=[source])
    shown = [
        {"where": "excluded.yaml", "why": "excluded is in cluster_checks.exclude_checks"},
        {"where": "redis.yaml", "why": "a template: it has ad_identifiers and no node_name"},
    ]
    assert row().passed_over == shown
    assert [one.where for one in outcome.passed_over] == ["excluded.yaml", "redis.yaml"]
    assert outcome.other_checks == 1
    assert keys() == {"dispatched.yaml"}


def test_an_endpoint_check_belongs_to_its_node_and_has_no_owner(folder: Path, source: FileSource) -> None:
    write(folder, "redis", text="ad_identifiers: [redis]\nnode_name: birch\ninstances: [{host: '%%host%%'}]")
    sync(sources=[source])
    assert Config.objects.get().node_name == "birch"
    assert not Assignment.objects.exists()
    assert instances("redis.yaml") == ["host: '%%host%%'\n"]


def test_a_config_that_stops_being_a_cluster_check_is_unscheduled(folder: Path, source: FileSource) -> None:
    write(folder, "one")
    sync(sources=[source])
    write(folder, "one", text="cluster_check: false\ninstances: [{url: one}]")
    assert sync(sources=[source]).removed == ["one.yaml"]
    assert keys() == set()


# What is wrong


@pytest.mark.parametrize("text", ["", "# gone\n", "instances:\n  - password: 'hunter2\n", "instances: nonsense",
                                  "instances: [{a: '%%env_CAST_GONE%%'}]", "x" * 2_000_000])  # fmt: skip
def test_a_broken_file_keeps_its_last_good_config_and_the_others_go_on(
    folder: Path, source: FileSource, text: str
) -> None:
    write(folder, "good", "other")
    sync(sources=[source])
    write(folder, "good", text=text)
    (folder / "other.yaml").unlink()
    write(folder, "new")
    outcome = sync(sources=[source])
    assert (outcome.added, outcome.removed) == (["new.yaml"], ["other.yaml"])
    assert [error["where"] for error in row().errors] == ["good.yaml"]
    assert "hunter2" not in str(row().errors)
    assert instances("good.yaml") == ["empty_default_hostname: true\nurl: good\n"]
    write(folder, "good")
    assert sync(sources=[source]) == Report()
    assert row().errors == []


def test_an_error_names_file_line_and_variable(folder: Path, source: FileSource) -> None:
    write(folder, "postgres.d/conf", text="cluster_check: true\ninstances:\n  - password: '%%env_DB_PASSWORD%%'\n")
    problem = "%%env_DB_PASSWORD%%: there is no such environment variable"
    (shown,) = sync(sources=[source]).errors
    assert str(shown) == f"postgres.d/conf.yaml:3: {problem}"
    assert row().errors == [{"where": "postgres.d/conf.yaml", "line": 3, "error": problem}]
    assert keys() == set()


def test_a_config_that_cant_be_patched_is_an_error(folder: Path, source: FileSource) -> None:
    write(folder, "long", text=f"cluster_check: true\ninstances: [{{name: {'n' * 3000}}}]")
    (problem,) = sync(sources=[source]).errors
    assert problem.where == "long.yaml"
    assert "instance 1" in problem.error


def test_a_folder_that_cant_be_read_removes_nothing_and_does_not_count_as_read(
    folder: Path, source: FileSource, tmp_path: Path
) -> None:
    write(folder, "one", "two")
    sync(sources=[source])
    read_at = row().read_at
    assert read_at
    folder.rename(tmp_path / "away")
    outcome = sync(sources=[source])
    assert [error.where for error in outcome.errors] == [str(folder)]
    assert (keys(), outcome.removed, row().read_at) == ({"one.yaml", "two.yaml"}, [], read_at)
    assert row().scanned_at > read_at
    (tmp_path / "away").rename(folder)
    (folder / "two.yaml").unlink()
    assert sync(sources=[source]) == Report(removed=["two.yaml"])
    assert row().read_at > read_at


def test_a_missing_default_folder_is_an_error_only_when_something_came_from_it(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CONFD_GIVEN", False)
    folder.rmdir()
    assert sync(sources=[source]) == Report()
    read_at = row().read_at
    assert read_at
    write(folder, "one")
    sync(sources=[source])
    read_at = row().read_at
    (folder / "one.yaml").unlink()
    folder.rmdir()
    assert [error.where for error in sync(sources=[source]).errors] == [str(folder)]
    assert (keys(), row().read_at) == ({"one.yaml"}, read_at)


def test_a_file_without_permission_keeps_its_config_and_is_tried_again(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "one")
    sync(sources=[source])
    write(folder, "one", text="cluster_check: true\ninstances: [{url: edited}]")
    real = os.open

    def denied(path: str, flags: int) -> int:
        if path.endswith("one.yaml"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        assert [str(error) for error in sync(sources=[source]).errors] == ["one.yaml: Permission denied"]
        assert keys() == {"one.yaml"}
    assert sync(sources=[source]) == Report(changed=["one.yaml"])


# Half-written files


def test_a_half_written_file_keeps_its_last_good_config(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "one")
    sync(sources=[source])
    monkeypatch.setattr(files, "SETTLED_AFTER", 1)
    write(folder, "one", text="cluster_check: true\ninstan")
    assert sync(sources=[source]) == Report(unsettled=True)
    write(folder, "one", text="cluster_check: true\ninstances: [{url: edited}]")
    assert sync(sources=[source]) == Report(unsettled=True)
    assert instances("one.yaml") == ["empty_default_hostname: true\nurl: one\n"]
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    assert sync(sources=[source]) == Report(changed=["one.yaml"])


def test_a_write_during_the_read_is_seen(folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "one")
    real = os.open

    def written_meanwhile(path: str, flags: int) -> int:
        write(folder, "one", text="cluster_check: true\ninstances: [{url: longer than before}]")
        return real(path, flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", written_meanwhile)
        assert sync(sources=[source]) == Report(unsettled=True)
    assert sync(sources=[source]) == Report(added=["one.yaml"])
    assert instances("one.yaml") == ["empty_default_hostname: true\nurl: longer than before\n"]


def test_what_was_wrong_with_a_file_is_shown_while_it_settles(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "broken", text="instances: {}")
    write(folder, "redis", text="ad_identifiers: [redis]\ninstances: [{}]")
    sync(sources=[source])
    before = (row().errors, row().passed_over)
    monkeypatch.setattr(files, "SETTLED_AFTER", 3600)
    assert sync(sources=[FileSource()]).unsettled
    assert (row().errors, row().passed_over) == before


# Several replicas


def test_what_is_unchanged_becomes_the_scanning_replica_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "one")
    sync(sources=[FileSource()])
    before = (owners(), Config.objects.get().changed)
    monkeypatch.setattr(conf, "REPLICA", "west")
    assert sync(sources=[FileSource()]) == Report()
    assert Origin.objects.get().scanned_by == "west"
    assert (owners(), Config.objects.get().changed) == before


def test_another_replica_s_configs_outlive_its_last_scan_by_ten_minutes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "east_only", "both")
    sync(sources=[FileSource()])
    monkeypatch.setattr(conf, "REPLICA", "west")
    (folder / "east_only.yaml").unlink()
    west = FileSource()
    assert sync(sources=[west]).removed == []
    age_scans("east", timedelta(minutes=9, seconds=50))
    assert sync(sources=[west]).removed == []
    age_scans("east")
    assert sync(sources=[west]).removed == ["east_only.yaml"]
    assert keys() == {"both.yaml"}
    assert list(SourceScan.objects.values_list("replica", flat=True)) == ["west"]


def test_a_new_process_of_the_same_replica_removes_at_once(folder: Path) -> None:
    write(folder, "one", "two")
    sync(sources=[FileSource()])
    (folder / "two.yaml").unlink()
    assert sync(sources=[FileSource()]).removed == ["two.yaml"]


# Held removals


@pytest.fixture
def twenty(folder: Path, source: FileSource) -> Iterator[list[str]]:
    names = [f"c{number:02}" for number in range(20)]
    write(folder, *names)
    sync(sources=[source])
    return names


def remove(folder: Path, names: list[str]) -> list[str]:
    for name in names:
        (folder / f"{name}.yaml").unlink()
    return [f"{name}.yaml" for name in names]


def test_half_of_the_configs_may_go_at_once(folder: Path, source: FileSource, twenty: list[str]) -> None:
    gone = remove(folder, twenty[:10])
    assert sync(sources=[source]) == Report(removed=gone)


def test_more_than_half_is_held_and_the_rest_of_the_scan_goes_through(
    folder: Path, source: FileSource, twenty: list[str]
) -> None:
    gone = remove(folder, twenty[:11])
    write(folder, "new")
    write(folder, "c19", text="cluster_check: true\ninstances: [{url: edited}]")
    assert sync(sources=[source]) == Report(added=["new.yaml"], changed=["c19.yaml"], held=gone)
    assert row().held_removals == gone
    assert len(keys()) == 21


def test_nine_configs_are_never_held(folder: Path, source: FileSource) -> None:
    names = [f"c{number}" for number in range(9)]
    write(folder, *names)
    sync(sources=[source])
    assert sync(sources=[source]) == Report()
    gone = remove(folder, names)
    assert sync(sources=[source]) == Report(removed=gone)


def test_a_held_removal_ends_when_someone_accepts_it(folder: Path, source: FileSource, twenty: list[str]) -> None:
    gone = remove(folder, twenty[:15])
    sync(sources=[source])
    assert sync(sources=[source], accept_removals=True) == Report(removed=gone)
    assert (row().held_removals, len(keys())) == ([], 5)


def test_a_held_removal_ends_when_the_files_are_back(folder: Path, source: FileSource, twenty: list[str]) -> None:
    remove(folder, twenty)
    sync(sources=[source])
    write(folder, *twenty)
    assert sync(sources=[source]) == Report()
    assert (row().held_removals, len(keys())) == ([], 20)


def test_new_files_do_not_release_what_is_held(folder: Path, source: FileSource, twenty: list[str]) -> None:
    gone = remove(folder, twenty[:15])
    sync(sources=[source])
    write(folder, *(f"new{number}" for number in range(40)))
    sync(sources=[source])
    fresh = remove(folder, ["c19"])
    assert sync(sources=[source]) == Report(removed=fresh, held=gone)


def test_a_new_process_holds_no_configs_but_those_that_it_sends(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads all files again, which may be very many."""
    write(folder, "held-1", "held-2", "held-3")
    sync(sources=[source])
    write(folder, "held-2", text="cluster_check: true\ninstances: [{url: edited}]\n")
    held = []

    def send(*args: object, **how: object) -> list[Move]:
        gc.collect()
        held.extend(one.key for one in gc.get_objects() if type(one) is Sent and one.key.startswith("held-"))
        return []

    monkeypatch.setattr(origins, "send", send)
    sync(sources=[FileSource()])
    assert held == ["held-2.yaml"]


def test_new_files_that_are_being_written_do_not_release_what_is_held(
    folder: Path, source: FileSource, twenty: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = remove(folder, twenty[:15])
    sync(sources=[source])
    write(folder, *(f"new{number}" for number in range(40)))
    monkeypatch.setattr(files, "SETTLED_AFTER", 60)
    for accept_removals in (False, True):
        assert sync(sources=[source], accept_removals=accept_removals) == Report(held=gone, unsettled=True)
    assert row().held_removals == gone
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    assert sync(sources=[source]).held == gone


def test_a_file_that_is_broken_is_not_counted_as_gone(folder: Path, source: FileSource, twenty: list[str]) -> None:
    write(folder, *twenty[:15], text="instances: {}")
    outcome = sync(sources=[source])
    assert (len(outcome.errors), outcome.held, len(keys())) == (15, [], 20)


# Leaders and others at the same time


def test_a_leader_whose_term_is_over_writes_nothing(folder: Path, source: FileSource) -> None:
    term = lead()
    write(folder, "one")
    assert sync(term, sources=[source]).added == ["one.yaml"]
    lead()
    write(folder, "two")
    (folder / "one.yaml").unlink()
    before = row().scanned_at
    with pytest.raises(NotLeader):
        sync(term, sources=[source])
    assert (keys(), row().scanned_at) == ({"one.yaml"}, before)
    assert sync(sources=[source]) == Report(added=["two.yaml"], removed=["one.yaml"])


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_term_that_ends_during_the_scan_stops_the_sync(folder: Path, source: FileSource, change: str) -> None:
    write(folder, "one")
    sync(sources=[source])
    term = lead()
    write(folder, "two") if change == "added" else (folder / "one.yaml").unlink()
    scan = source.scan

    def overthrown() -> object:
        lead()
        return scan()

    source.scan = overthrown  # type: ignore[method-assign,assignment]
    with pytest.raises(NotLeader):
        sync(term, sources=[source])
    assert keys() == {"one.yaml"}


def test_one_sync_runs_at_a_time(folder: Path, source: FileSource) -> None:
    write(folder, "one")
    parameters = connection.get_connection_params()
    with psycopg.connect(**{**parameters, "cursor_factory": psycopg.Cursor}, autocommit=True) as other:
        locks.acquire(other.cursor(), locks.Lock.SYNC)
        connection.cursor().execute("SET LOCAL lock_timeout = '10ms'")
        with pytest.raises(SyncUnderWay), transaction.atomic():
            sync(sources=[source])
        assert keys() == set()
        assert locks.release(other.cursor(), locks.Lock.SYNC)
        sync(sources=[source])
        assert keys() == {"one.yaml"}
        with pytest.raises(NotLeader):
            sync(-1, sources=[source])
        assert locks.try_acquire(other.cursor(), locks.Lock.SYNC, timeout="10ms")


# Warnings

ODD = "cluster_check: true\ninstances:\n  - url: NAME\n    tags: a\n"


def warned() -> list[tuple[str, int | None]]:
    """The places of the warnings in the source's row."""
    return [(one["where"], one["line"]) for one in row().warnings]


def test_what_is_odd_is_dispatched_and_told_until_it_is_mended(folder: Path, source: FileSource) -> None:
    write(folder, "a", "b", text=ODD)
    told = sync(sources=[source])
    assert (told.added, [notice.where for notice in told.warnings]) == (["a.yaml", "b.yaml"], ["a.yaml", "b.yaml"])
    assert warned() == [("a.yaml", 4), ("b.yaml", 4)]
    sync(sources=[source])
    assert warned() == [("a.yaml", 4), ("b.yaml", 4)]
    write(folder, "a")
    (folder / "b.yaml").unlink()
    sync(sources=[source])
    assert (warned(), keys()) == ([], {"a.yaml"})


def test_a_file_that_is_odd_and_no_cluster_check_is_told(folder: Path) -> None:
    write(folder, "a", text="cluster-check: true\ninstances: [{}]\n")
    assert (sync().other_checks, warned()) == (1, [("a.yaml", 1)])


def test_what_was_odd_about_a_file_that_is_being_written_stays_told(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "a", text=ODD)
    sync(sources=[source])
    monkeypatch.setattr(files, "SETTLED_AFTER", 60)
    write(folder, "a", text=ODD + "    b: 1\n")
    assert sync(sources=[source]).unsettled
    assert warned() == [("a.yaml", 4)]


def test_a_key_unlike_those_of_files_that_came_later_is_told(folder: Path, source: FileSource) -> None:
    folder = folder / "http_check.d"
    write(folder, "a", text="cluster_check: true\ninstances:\n  - url: NAME\n    query_stirng: 1\n")
    sync(sources=[source])
    assert warned() == []
    write(folder, "b", "c", text="cluster_check: true\ninstances:\n  - url: NAME\n    query_string: 1\n")
    sync(sources=[source])
    assert warned() == [("http_check.d/a.yaml", 4)]


def test_each_warning_is_logged_once(folder: Path, source: FileSource, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, "a", text=ODD)
    sync(sources=[source])
    sync(sources=[source])
    assert sum("config_odd" in str(record.msg) for record in caplog.records) == 1


# Which file a config names as its source


def sources() -> dict[str, str]:
    """{an origin's key: the source that its config names to node agents}; what people see names the same."""
    found = {}
    for origin in Origin.objects.select_related("config"):
        config = origin.config
        named = json.loads(bytes(config.wire))["source"]
        assert json.loads(bytes(config.scrubbed))["source"] == config.original["source"] == named
        assert f"\nsource: {named}\n" in config.text
        found[origin.key] = named
    return found


def bytes_of_all() -> list[tuple[int, str, object]]:
    """The hashes that decide whether a check restarts."""
    return [
        (config.pk, config.digest, json.loads(bytes(config.wire))["instances"])
        for config in Config.objects.order_by("pk")
    ]


SAME = "cluster_check: true\ninstances: [{url: x, tags: [a, b]}]\n"
OTHER_ORDER = "cluster_check: true\ninstances: [{tags: [b, a], url: x}]\n"


def test_a_renamed_file_s_config_names_the_new_file_and_stays_where_it_is(folder: Path, source: FileSource) -> None:
    write(folder, "http_check.d/a")
    sync(sources=[source])
    before, moves, versions_ = bytes_of_all(), Move.objects.count(), versions()
    (folder / "http_check.d/a.yaml").rename(folder / "http_check.d/b.yaml")
    sync(sources=[source])
    assert sources() == {"http_check.d/b.yaml": "file:http_check.d/b.yaml"}
    assert (bytes_of_all(), Move.objects.count(), versions()) == (before, moves, versions_)


def test_a_rename_is_waited_for_until_the_new_file_is_read(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "http_check.d/a")
    sync(sources=[source])
    before = bytes_of_all()
    (folder / "http_check.d/a.yaml").rename(folder / "http_check.d/b.yaml")
    monkeypatch.setattr(files, "SETTLED_AFTER", 60)
    told = sync(sources=[source])
    assert (told.removed, told.unsettled) == ([], True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    assert sync(sources=[source]).removed == ["http_check.d/a.yaml"]
    assert (bytes_of_all(), sources()) == (before, {"http_check.d/b.yaml": "file:http_check.d/b.yaml"})


def test_a_file_that_never_settles_holds_no_removal_up(
    folder: Path, source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "a", "b")
    sync(sources=[source])
    monkeypatch.setattr(files, "SETTLED_AFTER", 60)
    write(folder, "log")
    (folder / "a.yaml").unlink()
    assert sync(sources=[source]).removed == []
    monkeypatch.setattr(files, "ARRIVES_FOR", 0)
    assert sync(sources=[source]).removed == ["a.yaml"]


@pytest.mark.parametrize("text", [SAME, OTHER_ORDER])
@pytest.mark.parametrize("edit", [False, True])
def test_when_one_of_two_files_goes_the_config_names_the_other(
    folder: Path, source: FileSource, text: str, edit: bool
) -> None:
    write(folder, "http_check.d/a", text=SAME)
    write(folder, "http_check.d/b", text=text)
    sync(sources=[source])
    before = bytes_of_all()
    assert set(sources().values()) == {"file:http_check.d/a.yaml"}
    if edit:
        write(folder, "http_check.d/a", text="cluster_check: true\ninstances: [{url: y}]\n")
    else:
        (folder / "http_check.d/a.yaml").unlink()
    sync(sources=[source])
    assert sources()["http_check.d/b.yaml"] == "file:http_check.d/b.yaml"
    assert before[0] in bytes_of_all()


def test_the_config_of_a_file_and_the_admin_names_who_is_left(folder: Path, source: FileSource) -> None:
    write(folder, "http_check", text=SAME)
    sync(sources=[source])
    origins.put("admin", "by hand", replace(origins.original("file", "http_check.yaml"), source="admin:by hand"))
    assert Config.objects.count() == 1
    (folder / "http_check.yaml").unlink()
    sync(sources=[source])
    assert sources() == {"by hand": "admin:by hand"}
    config = Config.objects.get()
    assert (config.provider, json.loads(bytes(config.wire))["provider"]) == ("admin", "admin")


def test_a_renamed_folder_of_files_is_no_removal_to_hold(folder: Path, source: FileSource, twenty: list[str]) -> None:
    before = bytes_of_all()
    for name in twenty:
        (folder / f"{name}.yaml").rename(folder / f"{name}.yml")
    told = sync(sources=[source])
    assert (told.held, len(told.removed)) == ([], 20)
    assert bytes_of_all() == before
    assert sources() == {f"{name}.yml": f"file:{name}.yml" for name in twenty}


def test_what_is_held_and_comes_back_under_another_name_is_held_no_more(
    folder: Path, source: FileSource, twenty: list[str]
) -> None:
    before = bytes_of_all()
    for name in twenty:
        (folder / f"{name}.yaml").rename(folder / f"{name}.away")
    assert len(sync(sources=[source]).held) == 20
    for name in twenty:
        (folder / f"{name}.away").rename(folder / f"{name}.yml")
    assert sync(sources=[source]).held == []
    assert (row().held_removals, bytes_of_all()) == ([], before)


def test_while_one_of_two_files_is_broken_the_config_names_the_other(folder: Path, source: FileSource) -> None:
    write(folder, "http_check.d/a", "http_check.d/b", text=SAME)
    write(folder, "http_check.d/c")
    sync(sources=[source])
    before = bytes_of_all()
    write(folder, "http_check.d/a", "http_check.d/c", text="instances: [")
    for _ in range(2):
        sync(sources=[source])
        assert set(sources().values()) == {"file:http_check.d/b.yaml", "file:http_check.d/c.yaml"}
    write(folder, "http_check.d/b", text="instances: [")
    sync(sources=[source])
    assert sources()["http_check.d/a.yaml"] == "file:http_check.d/b.yaml"
    write(folder, "http_check.d/a", text=SAME)
    sync(sources=[source])
    assert sources()["http_check.d/b.yaml"] == "file:http_check.d/a.yaml"
    assert bytes_of_all() == before


@table(
    ("kept", "kept_under", "key", "keeps"),
    [
        ({"a/b"}, set(), "a/b", True),
        ({"a/b"}, set(), "a/bc", False),
        (set(), {"a/"}, "a/b", True),
        (set(), {"a/b/"}, "a/b/c/d", True),
        (set(), {"a/b/"}, "a/b", False),
        (set(), {"a/b/"}, "a/bc/d", False),
        (set(), {""}, "a", True),
        (set(), {"b/"}, "a/b/", False),
    ],
)  # fmt: skip
def test_what_is_under_a_prefix_that_is_not_known_is_kept(kept, kept_under, key, keeps) -> None:
    assert Scan(kept=kept, kept_under=kept_under).keeps(key) is keeps
