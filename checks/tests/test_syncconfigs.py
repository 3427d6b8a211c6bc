"""The command syncconfigs."""

import json
import os
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from checks import sources
from checks.management.commands import syncconfigs
from checks.models import Origin
from checks.models.orders import Rule
from checks.sources import files
from checks.tests.cast import report
from clusteragent.lib import conf
from tests.rows import Rows

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    return tmp_path


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.yaml").write_text(f"cluster_check: true\ninstances: [{{url: {name}}}]")


def run(*arguments: str) -> str:
    """What the command writes when all is well."""
    out = StringIO()
    call_command("syncconfigs", *arguments, stdout=out)
    return out.getvalue()


def fail(*arguments: str) -> tuple[str, str]:
    """What the command writes and says when something is wrong. It exits with 1."""
    out = StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("syncconfigs", *arguments, stdout=out)
    assert caught.value.returncode == 1
    return out.getvalue(), str(caught.value)


def test_syncconfigs_says_what_it_did(folder: Path) -> None:
    write(folder, "one", "two")
    (folder / "cpu.yaml").write_text("instances: [{}]")
    (folder / "redis.yaml").write_text("ad_identifiers: [redis]\ninstances: [{}]")
    assert run().splitlines() == [
        "added: one.yaml",
        "added: two.yaml",
        "passed over: redis.yaml: a template: it has ad_identifiers and no node_name",
        "2 added, 0 changed, 0 removed, 1 config that is no cluster check",
    ]
    (folder / "two.yaml").unlink()
    assert "removed: two.yaml" in run()


def test_an_error_is_shown_with_file_and_line(folder: Path) -> None:
    write(folder, "one")
    (folder / "postgres.d").mkdir()
    (folder / "postgres.d/conf.yaml").write_text("cluster_check: true\ninstances:\n  - text\n")
    out, message = fail()
    assert "added: one.yaml" in out
    assert "error: postgres.d/conf.yaml:3: an instance is not a map" in out
    assert message == "1 in error, 0 removals held"


def odd(folder: Path) -> None:
    """Two files whose authors meant something else, one of them no cluster check."""
    (folder / "a.yaml").write_text("cluster_check: true\ntags: [b]\ninstances: [{url: a}]\n")
    (folder / "b.yaml").write_text("cluster_checks: true\ninstances: [{url: b}]\n")


def test_warnings_are_shown_with_file_and_line_and_are_no_error(folder: Path) -> None:
    odd(folder)
    lines = run().splitlines()
    assert "warning: a.yaml:2: nothing reads tags at the top level: does it belong in an instance?" in lines
    assert "warning: b.yaml:1: nothing reads cluster_checks at the top level: is cluster_check meant?" in lines
    assert "added: a.yaml" in lines


def test_a_strict_run_fails_for_warnings(folder: Path) -> None:
    write(folder, "one")
    run("--strict")
    odd(folder)
    out, message = fail("--strict")
    assert "warning: a.yaml:2: " in out
    assert message == "0 in error, 0 removals held, 2 warnings"


def test_held_removals_are_shown_and_can_be_accepted(folder: Path) -> None:
    names = [f"c{number}" for number in range(12)]
    write(folder, *names)
    run()
    for name in names:
        (folder / f"{name}.yaml").unlink()
    out, message = fail()
    assert "held: c0.yaml is gone; use --accept-removals to remove it" in out
    assert message == "0 in error, 12 removals held"
    assert Origin.objects.count() == 12
    assert "12 removed" in run("--accept-removals")
    assert not Origin.objects.exists()


def test_syncconfigs_writes_json_for_programs(folder: Path) -> None:
    write(folder, "one")
    assert json.loads(run("--json"))["added"] == ["one.yaml"]
    (folder / "one.yaml").write_text("instances:\n  - text\n")
    out, _ = fail("--json")
    error = {"where": "one.yaml", "line": 2, "error": "an instance is not a map"}
    assert json.loads(out)["errors"] == [error]
    (folder / "one.yaml").write_text("cluster_checks: true\ninstances: [{}]\n")
    told = "nothing reads cluster_checks at the top level: is cluster_check meant?"
    assert json.loads(run("--json"))["warnings"] == [{"where": "one.yaml", "line": 1, "warning": told}]


def test_syncconfigs_waits_for_files_that_are_being_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SETTLED_AFTER", 0.05)
    write(folder, "young")
    os.utime(folder / "young.yaml", (time.time() + 60,) * 2)
    assert "added: young.yaml" in run()


def test_syncconfigs_says_when_another_sync_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(accept_removals: bool, actor: str, patience: float, ahead: object) -> sources.Report:
        raise sources.SyncUnderWay

    monkeypatch.setattr(syncconfigs.sources, "sync_settled", busy)
    assert fail() == ("", "another sync is under way, try again")


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_reads_files_while_no_transaction_is_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the map stays locked for as long as very many files take."""
    read, within = files._read, []

    def noting(file: files.File, version: files.Version) -> Any:
        within.append((file.key, connection.in_atomic_block))
        return read(file, version)

    monkeypatch.setattr(files, "_read", noting)
    write(folder, "one", "two")
    (folder / "broken.yaml").write_text("cluster_check: true\ninstances: [")
    said, error = fail("--dry-run")
    assert sorted(within) == [("broken.yaml", False), ("one.yaml", False), ("two.yaml", False)]
    assert said.splitlines()[:2] == ["would be added: one.yaml", "would be added: two.yaml"]
    assert "error: broken.yaml" in said
    assert error == "1 in error, 0 removals held"
    assert not Origin.objects.exists()
    really, error_of_it = fail()
    for line in really.splitlines():
        assert line in said.replace("would be ", "").splitlines()
    assert error_of_it == error


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_leaves_out_what_is_written_while_it_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = files._read

    def while_written(file: files.File, version: files.Version) -> Any:
        if file.key == "two.yaml":
            Path(file.path).write_text("cluster_check: true\ninstances: [{url: another}]")
        return read(file, version)

    monkeypatch.setattr(files, "_read", while_written)
    write(folder, "one", "two")
    said = run("--dry-run").splitlines()
    assert said[0] == "would be added: one.yaml"
    assert "Something is being written just now, which is left out: try again." in said
    assert said[-1].startswith("would be 1 added")


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_says_what_follows_on_the_map(folder: Path, warm: None) -> None:
    report("ash")
    write(folder, "one", "two")
    run()
    Rule.objects.create(name="fast", check_pattern="far", required={"disk": "fast"})
    write(folder, "far", "three")
    (folder / "one.yaml").unlink()
    before = Rows()
    lines = run("--dry-run").splitlines()
    assert Rows() == before
    assert {"three three: new → ash", "far far: new → nobody", "one one: ash → gone"} <= set(lines)
    assert "1 config would be added, on ash." in lines
    assert "1 config would be added, and run nowhere." in lines
    assert "1 config would be taken away from ash." in lines
    assert any(line.startswith("Why they would run nowhere: ") and "fast" in line for line in lines)
    assert any(line.startswith("The highest load of a node would ") for line in lines)
    told = json.loads(run("--dry-run", "--json"))
    assert told["sentences"][-1].startswith("The highest load")
    assert {(one["check"], one["source"], one["to"]) for one in told["moves"]} >= {("far", "new", "nobody")}
    assert "sentences" not in json.loads(run("--json"))


def test_a_file_that_is_called_like_a_password_keeps_its_line(folder: Path) -> None:
    (folder / "passwd.yaml").write_text("cluster_check: true\ninstances:\n  - text\n")
    (folder / "token.yaml").write_text("ad_identifiers: [redis]\ninstances: [{}]")
    (folder / "secret.yaml").write_text("cluster_checks: true\ninstances: [{url: b}]\n")
    out, _ = fail()
    assert "error: passwd.yaml:3: an instance is not a map" in out
    assert "passed over: token.yaml: a template: it has ad_identifiers" in out
    assert "warning: secret.yaml:1: nothing reads cluster_checks" in out
