"""importstate: what exportstate wrote comes back in another database."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from checks import dispatcher
from checks.models import Config, Cost, Origin
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import origins
from checks.tests.cast import owners, report, sent
from checks.tests.operators import config
from nodes.models import Heartbeat, Node, NodeRule

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def exported(warm: None, tmp_path: Path) -> Path:
    """The export of a database that has something of everything. The database is empty again."""
    report("ash", "birch", "gone")
    dispatcher.schedule([sent("db", instances=("host: db\npassword: hunter22\n",)), sent("shop"), sent("mail")])
    origins.put("admin", "by hand", sent("by hand").original, text="# by hand\n")
    for key, node in (("db", "ash"), ("shop", "birch")):
        dispatcher.reassign([config(key).pk], node, actor="eve")
    dispatcher.pin([config("shop").pk], "birch", actor="eve", note="near")
    dispatcher.pause([config("mail").pk], actor="eve")
    dispatcher.isolate([config("db").pk], actor="eve")
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="x")
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
        "checks_config, checks_origin, checks_pin, checks_pause, checks_isolation, checks_rule, checks_cost, nodes_node"
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
        "nodes": list(Node.objects.known().order_by("name").values_list("name", "schedulable", "labels")),
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
    assert (found["pins"], found["paused"], found["alone"]) == ([("shop", "birch", "eve", "near")], ["mail"], ["db"])
    assert (found["costs"], found["rules"]) == ([("db", 0.25)], [("fast", {"disk": "fast"})])
    assert found["nodes"] == [("ash", False, {}), ("birch", True, {"zone": "b"})]


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
        ({"nodes": None}, "exportstate did not write it"),
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


def test_adopting_an_export_names_the_command_that_reads_it(exported: Path) -> None:
    with pytest.raises(CommandError, match="importstate reads it"):
        call_command("adopt", "--file", str(exported))
