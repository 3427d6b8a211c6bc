"""importstate: what exportstate wrote comes back in another database."""

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from acts.models import Act
from checks import dispatcher, plans
from checks.explain import alerts
from checks.models import Config, Cost, Origin, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import origins
from checks.tests.cast import dangling, lead, owners, report, sent
from checks.tests.operators import config
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeRule
from tests.rows import Rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def exported(warm: None, tmp_path: Path) -> Path:
    """The export of a database that has something of everything. The database is empty again."""
    report("ash", "gone")
    note_heartbeat("birch", last_change=0, declared=canonical(exclude=["disk"], group="blue"))
    dispatcher.schedule([sent("db", instances=("host: db\npassword: hunter22\n",)), sent("shop"), sent("mail")])
    origins.put("admin", "by hand", sent("by hand").original, text="# by hand\n")
    for key, node in (("db", "ash"), ("shop", "birch")):
        dispatcher.reassign([config(key).pk], node, actor="eve")
    dispatcher.pin([config("shop").pk], "birch", actor="eve", note="near")
    dispatcher.pause([config("mail").pk], actor="eve")
    dispatcher.isolate([config("db").pk], actor="eve")
    dispatcher.schedule([sent("waits")])
    dispatcher.pin([config("waits").pk], "zone=b", kind=Pin.Kind.LABEL, actor="eve")
    dispatcher.unschedule([("file", "waits")])
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="x")
    freezes.freeze(actor="eve", note="we come over")
    NodeRule.objects.create(pattern="b*", labels={"zone": "b"})
    NodeRule.objects.apply()
    Cost.objects.create(config_id=config("db").pk, workers_needed=0.25)
    Node.objects.filter(name="ash").cordon(actor="eve")
    Heartbeat.objects.filter(node__name="gone").delete()
    file = tmp_path / "state.json"
    call_command("exportstate", str(file))
    empty()
    return file


def empty() -> None:
    tables = (
        "checks_config, checks_origin, checks_pin, checks_pause, checks_isolation, checks_rule, checks_cost,"
        " checks_freeze, nodes_node"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}, nodes_noderule, checks_move, checks_plan CASCADE")


def seen() -> dict[str, Any]:
    """What people and node agents see of it, without the ids of rows."""
    named = {"key": F("config__origins__key")}
    return {
        "owners": owners(),
        "wire": sorted(bytes(wire) for wire in Config.objects.values_list("wire", flat=True)),
        "written": dict(Origin.objects.values_list("key", "written")),
        "pins": list(Pin.objects.values_list(*named.values(), "aim", "author", "note")),
        "paused": list(Pause.objects.values_list(*named.values(), flat=True)),
        "alone": list(Isolation.objects.values_list(*named.values(), flat=True)),
        "costs": list(Cost.objects.values_list(*named.values(), "workers_needed")),
        "rules": list(Rule.objects.values_list("name", "required")),
        "freezes": list(Freeze.objects.values_list("author", "note")),
        "nodes": list(Node.objects.known().order_by("name").values_list("name", "schedulable", "labels", "declared")),
    }


def test_all_of_it_comes_back(exported: Path) -> None:
    call_command("importstate", str(exported))
    found = seen()
    assert {key: found["owners"].get(key) for key in ("db", "shop", "mail")} == {
        "db": "ash",
        "shop": "birch",
        "mail": None,
    }
    assert found["written"]["by hand"] == "# by hand\n"
    assert found["pins"] == [("shop", "birch", "eve", "near"), (None, "zone=b", "eve", "")]
    assert (found["paused"], found["alone"], found["freezes"]) == (["mail"], ["db"], [("eve", "we come over")])
    assert (found["costs"], found["rules"]) == ([("db", 0.25)], [("fast", {"disk": "fast"})])
    declared = canonical(exclude=["disk"], group="blue")
    assert found["nodes"] == [("ash", False, {}, ""), ("birch", True, {"zone": "b"}, declared)]


def test_a_pass_places_what_had_no_node_and_leaves_alone_what_is_paused(exported: Path) -> None:
    call_command("importstate", str(exported))
    dispatcher.run_pass(lead())
    assert owners().keys() == {"db", "shop", "by hand"}
    assert dangling() == set()


def test_what_is_merged_runs_where_it_ran(exported: Path) -> None:
    report("cedar")
    call_command("importstate", str(exported), "--merge")
    assert {key: node for key, node in owners().items() if key != "by hand"} == {"db": "ash", "shop": "birch"}
    assert dangling() == set()


def test_more_than_a_chunk_is_imported_in_one_transaction(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("checks.adoption.importing", "checks.dispatcher.transaction"):
        monkeypatch.setattr(f"{module}.CHUNK", 1)
    with CaptureQueriesContext(connection) as queries:
        call_command("importstate", str(exported))
    assert [query["sql"] for query in queries].count("COMMIT") == 1
    assert owners()["shop"] == "birch"


def test_it_comes_back_from_standard_input(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with exported.open() as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stream)
        call_command("importstate", "-")
    assert Config.objects.count() == 4
    with (exported.parent / "empty").open("w+") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stream)
        with pytest.raises(CommandError, match="standard input: Expecting value"):
            call_command("importstate", "-", "--merge")


def test_what_was_imported_is_exported_alike(exported: Path, tmp_path: Path) -> None:
    call_command("importstate", str(exported))
    first = seen()
    call_command("exportstate", str(tmp_path / "again.json"))
    empty()
    call_command("importstate", str(tmp_path / "again.json"))
    assert seen() == first


def test_importing_again_adds_nothing(exported: Path) -> None:
    call_command("importstate", str(exported))
    before = seen()
    with pytest.raises(CommandError, match="has configs or nodes already: give --merge"):
        call_command("importstate", str(exported))
    call_command("importstate", str(exported), "--merge")
    assert seen() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 99}, "a newer version wrote it"),
        ({"version": "1"}, "exportstate did not write it"),
        ({"version": True}, "exportstate did not write it"),
        ({"version": -1}, "exportstate did not write it"),
        ({"nodes": None}, "exportstate did not write it"),
        ({"nodes": {}}, "nodes is no list"),
        ({"groups": []}, "it has 'groups', which this version does not know"),
        ({"costs": [{"config_id": 1, "workers_needed": math.nan}]}, "NaN is no JSON"),
    ],
)
def test_what_can_not_be_read_changes_nothing(exported: Path, change: dict[str, Any], why: str) -> None:
    document = {key: value for key, value in (json.loads(exported.read_text()) | change).items() if value is not None}
    exported.write_text(json.dumps(document))
    with pytest.raises(CommandError, match=why):
        call_command("importstate", str(exported))
    assert not Config.objects.exists()
    with pytest.raises(CommandError, match="No such file"):
        call_command("importstate", str(exported.parent / "nothing"))


def test_columns_that_an_older_version_did_not_have_get_their_defaults(exported: Path) -> None:
    document = json.loads(exported.read_text())
    for kind, name in (("origins", "written"), ("nodes", "weight"), ("nodes", "declared"), ("freezes", "ended_by")):
        for one in document[kind]:
            del one[name]
    exported.write_text(json.dumps(document))
    call_command("importstate", str(exported))
    assert owners()["shop"] == "birch"


def row(document: Any, kind: str, number: int = 0) -> Any:
    return document[kind][number]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: row(d, "nodes").update(name="a\x1b[2Jb"), "nodes 1: name: it is not one line of printable"),
        (lambda d: row(d, "nodes").update(name="a/b"), "nodes 1: name: a node's name is one path segment"),
        (lambda d: row(d, "nodes", 1).update(name="ash"), "nodes 2: another has the same name"),
        (lambda d: row(d, "nodes").update(weight=0), "nodes 1: weight: it is below 0.01"),
        (lambda d: row(d, "nodes").update(declared="[1]"), "nodes 1: declared: no node declares this"),
        (lambda d: row(d, "nodes").update(labels={"zone": 1}), "nodes 1: labels are an object with texts"),
        (lambda d: row(d, "nodes").update(schedulable="yes"), "nodes 1: schedulable: it is of a wrong type"),
        (lambda d: row(d, "nodes").update(max_configs=-1), "nodes 1: max_configs: .* greater than or equal to 0"),
        (lambda d: row(d, "nodes").update(config_version=10**30), "nodes 1: config_version: .* less than or equal"),
        (lambda d: row(d, "nodes").update(seen_at="2026-01-01T00:00:00"), "nodes 1: seen_at: it is no usual time"),
        (lambda d: row(d, "nodes").update(memory=1), "nodes 1: it has a field 'memory', which this version"),
        (lambda d: row(d, "nodes").pop("name"), "nodes 1: it has no name"),
        (lambda d: d["nodes"].insert(0, "ash"), "nodes 1: it is no object"),
        (lambda d: row(d, "assignments").update(config_id=0), "assignments 1: config_id 0 is not there"),
        (lambda d: row(d, "assignments").update(node_id=0), "assignments 1: node_id 0 is not there"),
        (lambda d: d["assignments"].append(row(d, "assignments")), r"assignments \d: another has the same config_id"),
        (lambda d: d["pins"].append(row(d, "pins") | {"id": 0}), "pins 3: another has the same config_id"),
        (lambda d: row(d, "pins").update(kind="zone"), "pins 1: kind: Value 'zone' is not a valid choice"),
        (lambda d: row(d, "pins").update(kind="label"), "pins 1: a label is written as zone=a"),
        (lambda d: row(d, "pauses").update(note="a\0b"), "pauses 1: note: it holds a character that can't be stored"),
        (lambda d: row(d, "pauses").update(note="\ud800"), "pauses 1: note: it holds a character that can't be stored"),
        (lambda d: row(d, "costs").update(workers_needed=-1), "costs 1: workers_needed: it is below 0"),
        (lambda d: row(d, "costs").update(workers_needed=1e308), "costs 1: workers_needed: it is no usual number"),
        (lambda d: row(d, "rules").update(required=[1]), "rules 1: required: it is of a wrong type"),
        (lambda d: row(d, "node_rules").update(network="everywhere"), "node_rules 1: network: everywhere is no address"),
        (lambda d: row(d, "freezes").update(until="0001-01-01T00:00:00+14:00"), "freezes 1: until: it is no usual time"),
        (lambda d: d["configs"].append(row(d, "configs")), "configs 5: another has the same id"),
        (lambda d: row(d, "configs").update(digest="x" * 17), "configs 1: digest: .* at most 16 characters"),
        (lambda d: row(d, "configs").update(name="other"), "configs 1: name: it is not that of its original"),
        (lambda d: row(d, "configs")["original"].update(instances="x"), "configs 1: instances is of a wrong type"),
        (lambda d: row(d, "configs")["original"].update(instances=["{"]), "configs 1: http_check: instance 1: line 1"),
        (lambda d: row(d, "configs")["original"].update(secrets=[]), "configs 1: original: it has a field 'secrets'"),
        (lambda d: row(d, "configs")["original"].update(cluster_check=False), "configs 1: http_check is not a cluster"),
        (lambda d: d["origins"].pop(0), "configs 1: no origin sends it"),
        (lambda d: row(d, "origins").update(key=row(d, "origins", 1)["key"]), "origins 2: another has the same source"),
        (lambda d: row(d, "origins").update(source=7), "origins 1: source: it is of a wrong type"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_and_nothing_is_written(exported: Path, change: Callable[[Any], Any], why: str) -> None:
    document = json.loads(exported.read_text())
    change(document)
    exported.write_text(json.dumps(document))
    before = Rows()
    with pytest.raises(CommandError, match=f"^{re.escape(str(exported))}: {why}") as refused:
        call_command("importstate", str(exported))
    assert refused.value.returncode == 1
    assert Rows() == before


def test_ten_wrong_rows_are_named_and_the_others_counted(exported: Path) -> None:
    document = json.loads(exported.read_text())
    document["rules"] = [{"id": number, "name": f"rule {number}"} for number in range(15)]
    exported.write_text(json.dumps(document))
    with pytest.raises(CommandError, match=r"rules 1: it has no .*; rules 10: it has no \w+; and 5 more$"):
        call_command("importstate", str(exported))


def test_what_is_wrong_with_a_row_names_no_secret(exported: Path) -> None:
    document = json.loads(exported.read_text())
    row(document, "pins").update(kind="password: hunter22")
    exported.write_text(json.dumps(document))
    with pytest.raises(CommandError, match="pins 1: kind") as refused:
        call_command("importstate", str(exported))
    assert "hunter22" not in str(refused.value)


ODD = (
    None, True, 0, -1, 3, 2**31, 2**63, 10**30, 0.5, -0.5, 5e-324, 1e308, math.inf, math.nan, "", " ", "x", "ash", "a\0b",
    "\ud800", "a\nb", "x" * 300, "%", "*", "[1]", '{"include": "ab"}', "a: &a [*a]", "2026-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00Z", [], [1], ["x"], {}, {"a": 1}, {"a": "b"},
    {"a": "\0"},
)  # fmt: skip


def mutate(document: Any, data: st.DataObject) -> None:
    """Drop, repeat or replace one value of a document, wherever it is."""
    place, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 5)):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    match data.draw(st.sampled_from(("replace", "exchange", "drop", "repeat"))):
        case "replace":
            # A copy: what is put into a list or an object later must not change what others draw.
            place[key] = deepcopy(data.draw(st.sampled_from(ODD)))
        case "exchange":
            other = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            place[key], place[other] = place[other], place[key]
        case "drop":
            del place[key]
        case "repeat" if isinstance(place, list):
            place.append(place[key])


def refusal(file: Path) -> str:
    """Why an export is refused; empty when it is imported."""
    try:
        call_command("importstate", str(file))
    except CommandError as error:
        return str(error)
    return ""


def test_an_export_with_any_damage_is_refused_or_works(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, before = exported.read_text(), Rows()

    @settings(max_examples=75, phases=[Phase.generate])
    @given(st.data())
    def damaged(data: st.DataObject) -> None:
        document = json.loads(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            mutate(document, data)
        exported.write_text(json.dumps(document))
        if said := refusal(exported):
            assert said.isprintable()
            assert Rows() == before
            return
        term = lead()
        dispatcher.run_pass(term)
        dispatcher.move_misplaced(term=term)
        plans.rebalance(actor="eve", force=True)
        alerts.current()
        again = exported.with_name("again.json")
        call_command("exportstate", str(again))
        again.unlink()
        before.restore()

    damaged()


def test_adopting_an_export_names_the_command_that_reads_it(exported: Path) -> None:
    with pytest.raises(CommandError, match="importstate reads it"):
        call_command("adopt", "--file", str(exported))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    call_command("importstate", *words)
    return capsys.readouterr().out.splitlines()


def there_already(file: Path) -> None:
    """Import it, and let node agents come back, so that all of it is here and runs. Then a person resumes mail."""
    call_command("importstate", str(file))
    report("ash", "birch")
    dispatcher.run_pass(lead())
    dispatcher.resume([config("mail").pk], actor="eve")


def test_what_a_merge_would_stop_must_be_accepted(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there_already(exported)
    assert "mail" in owners()
    rows = Rows()
    lines = said(capsys, str(exported), "--merge", "--dry-run")
    assert Rows() == rows
    assert "1 config would run nowhere." in lines
    assert "http_check mail: birch → nobody" in lines
    assert "1 config would be paused: nobody runs it until it is resumed." in lines
    assert any(line.startswith("The highest load of a node would ") for line in lines)
    with pytest.raises(CommandError, match=r"^1 config would run nowhere\. --accept-dangling does it all the same$"):
        call_command("importstate", str(exported), "--merge")
    assert "mail" in owners()
    refusal = Act.objects.get(verb="refuse")
    assert (refusal.object, refusal.reason) == ("importstate", "1 config would run nowhere.")
    call_command("importstate", str(exported), "--merge", "--accept-dangling")
    assert "mail" not in owners()


def test_a_rule_of_an_export_that_leaves_a_config_no_node_is_told(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there_already(exported)
    call_command("importstate", str(exported), "--merge", "--accept-dangling")
    document = json.loads(exported.read_text())
    row(document, "rules").update(check_pattern="http_*")
    exported.write_text(json.dumps(document))
    Rule.objects.all().delete()
    lines = said(capsys, str(exported), "--merge", "--dry-run")
    number = len(owners())
    assert f"{number} configs would run nowhere." in lines
    assert any(line.startswith("Why they would run nowhere: ") for line in lines)
    with pytest.raises(CommandError, match="--accept-dangling"):
        call_command("importstate", str(exported), "--merge")
    assert not Rule.objects.exists()


def test_an_export_that_is_older_than_the_map_says_so(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there_already(exported)
    told = said(capsys, str(exported), "--merge", "--dry-run")
    assert any(re.fullmatch(r"It was written .* UTC; \d+ moves were made here since\.", line) for line in told)
    document = json.loads(exported.read_text()) | {"time": "2100-01-01T00:00:00Z"}
    exported.write_text(json.dumps(document))
    assert not any("It was written" in line for line in said(capsys, str(exported), "--merge", "--dry-run"))


def test_an_import_after_which_no_node_takes_work_must_be_meant(exported: Path) -> None:
    document = json.loads(exported.read_text())
    for node in document["nodes"]:
        node["schedulable"] = False
    exported.write_text(json.dumps(document))
    with pytest.raises(CommandError, match=r"^No node would take work then: .* --accept-no-node does it all the same$"):
        call_command("importstate", str(exported))
    assert not Node.objects.exists()
    call_command("importstate", str(exported), "--accept-no-node")
    assert not Node.objects.accepting().exists()
