"""exportstate: the whole state in a file that only its owner may read."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from checks import dispatcher
from checks.adoption import importing
from checks.adoption.states import UnreadableState
from checks.explain import exporting
from checks.models.orders import Rule
from checks.sources import origins
from checks.tests.cast import report, sent
from checks.tests.operators import config
from nodes.models import Node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("db", instances=("host: db\npassword: hunter22\n",)), sent("shop"), sent("mail")])
    dispatcher.pin([config("shop").pk], "birch", actor="eve", note="near")
    dispatcher.pause([config("mail").pk], actor="eve")
    dispatcher.isolate([config("db").pk], actor="eve")
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="x")


def export(file: Path) -> Any:
    call_command("exportstate", str(file))
    return json.loads(file.read_text())


def test_the_export_holds_configs_with_their_secrets_origins_orders_rules_nodes_and_owners(tmp_path: Path) -> None:
    state = export(tmp_path / "state.json")
    ids = {origin["key"]: origin["config_id"] for origin in state["origins"]}
    originals = {one["id"]: one["original"] for one in state["configs"]}
    assert originals[ids["db"]]["instances"] == ["host: db\npassword: hunter22\n"]
    nodes = {node["id"]: node["name"] for node in state["nodes"]}
    assert {one["config_id"]: nodes[one["node_id"]] for one in state["assignments"]}[ids["shop"]] == "birch"
    [pin] = state["pins"]
    assert (pin["config_id"], pin["aim"], pin["author"], pin["note"]) == (ids["shop"], "birch", "eve", "near")
    # Plans are not exported, so their numbers would mean nothing.
    assert "plan" not in pin
    assert [pause["config_id"] for pause in state["pauses"]] == [ids["mail"]]
    assert [isolation["config_id"] for isolation in state["isolations"]] == [ids["db"]]
    assert [rule["name"] for rule in state["rules"]] == ["fast"]
    assert {node["name"] for node in state["nodes"] if node["seen_at"]} == {"ash", "birch"}
    assert state["version"] == exporting.VERSION


def test_the_export_holds_the_texts_of_authors(tmp_path: Path) -> None:
    origins.put("admin", "by hand", sent("by hand").original, text="# by hand\n")
    written = {origin["key"]: origin["written"] for origin in export(tmp_path / "state.json")["origins"]}
    assert (written["by hand"], written["db"]) == ("# by hand\n", "")


def test_the_export_does_not_hold_what_handles_of_secrets_stand_for(tmp_path: Path) -> None:
    secrets = (("ENC[k8s_secret@shop/db/key]", "hunter23"),)
    dispatcher.schedule([sent("web", instances=("a: ENC[k8s_secret@shop/db/key]\n",), secrets=secrets)])
    assert "ENC[k8s_secret@shop/db/key]" in json.dumps(export(tmp_path / "state.json"))
    assert "hunter23" not in (tmp_path / "state.json").read_text()


def test_only_its_owner_may_read_the_export_and_no_file_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    export(file)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    with pytest.raises(CommandError, match="File exists"):
        call_command("exportstate", str(file))
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("exportstate", str(tmp_path / "nowhere" / "state.json"))


def test_what_could_not_be_exported_wholly_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*args: Any) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(exporting, "_tables", break_off)
    with pytest.raises(CommandError, match="No space left"):
        call_command("exportstate", str(tmp_path / "state.json"))
    assert list(tmp_path.iterdir()) == []


def test_programs_are_told_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("exportstate", str(tmp_path / "state.json"), "--json")
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"]["configs"] == 3
    assert answer["rows"]["nodes"] == Node.objects.count()


def test_the_export_goes_to_standard_output_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("exportstate", "-")
    out, err = capsys.readouterr()
    state = json.loads(out)
    assert {key: state[key] for key in state if key != "time"} == {
        key: rows for key, rows in export(tmp_path / "state.json").items() if key != "time"
    }
    assert err.startswith("standard output: 3 configs, ")


def test_what_breaks_off_on_standard_output_can_not_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_off(*args: Any) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(exporting, "_tables", break_off)
    with pytest.raises(CommandError, match="standard output: Broken pipe"):
        call_command("exportstate", "-")
    with pytest.raises(UnreadableState):
        importing.read(capsys.readouterr().out.encode())
