"""Adopting the map of another cluster agent: what it reads, what it says, and what it does."""

import json
import os
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from acts.models import Act
from checks import dispatcher, plans
from checks.adoption import adopting, states
from checks.explain import alerts, state
from checks.models import Assignment, ClusterStore, Config, Cost, Move, Plan, Source
from checks.models.orders import Rule
from checks.tests.cast import owners, report, sent
from clusteragent.lib import conf
from clusteragent.lib.database.bulk import read_only_snapshot
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, NodeRule
from tests.rows import Rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _warm(warm: None) -> None: ...


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The state of another server: db on ash, shop and mail on birch. The same configs are here, on no node."""
    report("ash", "birch")
    dispatcher.schedule([sent(key, instances=(f"host: {key}\ntags: [b, a]\n",)) for key in ("db", "shop", "mail")])
    for key, node in (("db", "ash"), ("shop", "birch"), ("mail", "birch")):
        dispatcher.reassign([Config.objects.get(origins__key=key).pk], node, actor="eve")
    file = tmp_path / "state.json"
    file.write_bytes(b"".join(state.document()))
    Assignment.objects.all().delete()
    Config.objects.update(dangling_since=Now())
    Node.objects.all().delete()
    Move.objects.all().delete()
    Plan.objects.all().delete()
    Source.objects.update(read_at=Now())
    return file


def adopt(file: Path, *more: str, code: int = 0) -> str:
    """The output of the command, which ends with this exit status."""
    out = StringIO()
    try:
        call_command("adopt", "--file", str(file), *more, stdout=out)
        ended = 0
    except SystemExit as end:
        ended = int(end.code or 0)
    assert ended == code, out.getvalue()
    return out.getvalue()


def changed(file: Path, change: Any) -> Path:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


def refused(file: Path) -> str:
    with pytest.raises(CommandError) as error:
        call_command("adopt", "--file", str(file))
    assert error.value.returncode == 2
    return str(error.value)


def test_a_dry_run_says_that_all_runs_on_and_changes_nothing(there: Path) -> None:
    assert "2 nodes there, of which 2 did not report here yet; 3 configs run on without a restart" in adopt(there)
    assert (owners(), Node.objects.count(), Plan.objects.count()) == ({}, 0, 0)


def test_a_dry_run_only_reads_and_locks_nothing(there: Path) -> None:
    NodeRule.objects.create(pattern="*", labels={"zone": "b"})
    state = states.read(there.read_bytes())
    # PostgreSQL refuses writes and locks of rows in such a transaction, also those that would be rolled back.
    with read_only_snapshot():
        assert len(adopting.forecast(state).matching.unchanged) == 3


def test_a_dry_run_knows_the_labels_that_nodes_will_have_and_what_lost_ones_declared(there: Path) -> None:
    report("birch", "gone")
    note_heartbeat("ash", last_change=0, declared=canonical(exclude=["http_check"]))
    Heartbeat.objects.exclude(node__name="gone").delete()
    NodeRule.objects.create(pattern="b*", labels={"zone": "b"})
    Rule.objects.create(name="zones", forbidden={"zone": "b"}, check_pattern="http_check")
    Hearing.objects.update(warmup=True)
    said = json.loads(adopt(there, "--json", code=1))
    assert {row["node"]: row["why"] for row in said["move_later"]} == {
        "ash": "the node declares that it does not run http_check",
        "birch": "rule zones: it forbids zone=b",
    }
    before = Node.objects.count()
    adopt(there, "--json", "--apply", code=1)
    assert Node.objects.get(name="birch").labels == {"zone": "b"}
    assert Node.objects.count() == before


def test_applying_gives_each_config_to_the_node_that_runs_it(there: Path) -> None:
    assert "Adopted." in adopt(there, "--apply", "--note", "we come over", "--as", "olga")
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}
    assert set(Move.objects.values_list("reason", "actor")) == {("adopted", "olga (command line)")}
    [plan] = Plan.objects.all()
    assert (plan.order["note"], plan.moved, plan.author) == ("we come over", 3, "olga (command line)")
    assert plans.may_apply(type("Nobody", (), {"has_perms": lambda self, wanted: not wanted})(), plan) is False


def test_more_than_a_chunk_is_adopted_in_several_steps(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.dispatcher.transaction.CHUNK", 2)
    revision = ClusterStore.objects.get().revision
    adopt(there, "--apply")
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}
    assert ClusterStore.objects.get().revision == revision + 2


def test_a_cordoned_node_keeps_what_it_runs(there: Path) -> None:
    report("birch")
    Node.objects.cordon(actor="eve")
    adopt(there, "--apply")
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}


def test_adopting_again_does_nothing(there: Path) -> None:
    adopt(there, "--apply")
    revision = ClusterStore.objects.get().revision
    adopt(there, "--apply")
    assert (ClusterStore.objects.get().revision, Plan.objects.count()) == (revision, 1)


def test_bare_configs_of_older_servers_are_read_too(there: Path) -> None:
    def bare(document: Any) -> None:
        for node in document["nodes"]:
            node["configs"] = [one["config"] for one in node["configs"]]

    assert "3 configs run on" in adopt(changed(there, bare))


def test_what_differs_is_named_with_its_reason_and_restarts(there: Path) -> None:
    tagged = [sent(key, instances=(f"host: {key}\ntags: [a, c]\n",)) for key in ("db", "shop", "mail")]
    dispatcher.schedule(tagged)
    said = json.loads(adopt(there, "--json", "--apply", code=1))
    assert said["run_on"] == []
    assert [row["why"] for row in said["restart"]] == [["tags only there: b", "tags only here: c"]] * 3
    assert {row["node"] for row in said["restart"]} == {"ash", "birch"}
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}


def test_what_is_only_there_stops_and_what_is_only_here_starts(there: Path) -> None:
    dispatcher.unschedule([("file", "db")])
    dispatcher.schedule([sent("new", name="ntp")])
    said = json.loads(adopt(there, "--json", code=1))
    assert [(row["node"], row["why"]) for row in said["stop"]] == [("ash", "it is in no source here")]
    assert [row["name"] for row in said["start"]] == ["ntp"]


def test_a_config_that_runs_twice_there_runs_once_here(there: Path) -> None:
    def twice(document: Any) -> None:
        first, second = document["nodes"]
        second["configs"] += first["configs"]

    said = json.loads(adopt(changed(there, twice), "--json", code=1))
    assert (len(said["run_on"]), [row["why"] for row in said["stop"]]) == (3, ["it runs more than once there"])


def test_a_paused_config_stops(there: Path) -> None:
    dispatcher.pause([Config.objects.get(origins__key="db").pk], actor="eve")
    said = json.loads(adopt(there, "--json", "--apply", code=1))
    assert [row["why"] for row in said["stop"]] == ["it is paused here"]
    assert owners() == {"shop": "birch", "mail": "birch"}


def test_a_state_that_may_not_be_believed_is_refused(there: Path) -> None:
    whole = there.read_text()
    assert "does not lead (currently follower): ask the leader" in refused(
        changed(there, lambda document: document.update(not_running="currently follower"))
    )
    there.write_text(whole)
    assert "warms up" in refused(changed(there, lambda document: document.update(warmup=True)))
    there.write_text("<html>")
    assert "it is not JSON" in refused(there)
    there.write_text("{}")
    assert "no answer of GET" in refused(there)
    there.write_text('{"nodes": [{"name": "ash", "configs": [{"check_name": "a", "instances": ["%"]}]}]}')
    assert "ash: config 1 can't be read" in refused(there)
    there.write_text('{"nodes": [{"name": "a/b", "configs": []}]}')
    assert "node 'a/b'" in refused(there)
    there.unlink()
    assert "No such file" in refused(there)


def test_secrets_of_configs_are_not_shown(there: Path) -> None:
    def secret(document: Any) -> None:
        document["nodes"][0]["configs"][0]["config"]["check_name"] = "password=hunter22"

    assert "hunter22" not in adopt(changed(there, secret), code=1)


def test_nothing_is_compared_before_sources_were_read(there: Path) -> None:
    Config.objects.all().delete()
    assert "no source here has a config" in refused(there)
    Source.objects.update(read_at=None)
    assert "source file was not read yet" in refused(there)


def fetch(node: str, last_change: int) -> bool:
    """Let a node report, and return whether it is up to date."""
    return note_heartbeat(node, last_change=last_change)


def version(node: str) -> int:
    return Node.objects.get(name=node).config_version


def test_no_rule_moves_what_was_adopted_before_its_node_fetched_it(there: Path) -> None:
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="*")
    NodeRule.objects.create(pattern="fast", labels={"disk": "fast"})
    report("fast")
    said = json.loads(adopt(there, "--json", "--apply", code=1))
    assert len(said["move_later"]) == 3
    assert dispatcher.move_misplaced() == []
    theirs = 1_500_000_000_000_000_000
    assert not fetch("ash", theirs)
    assert dispatcher.move_misplaced() == []
    assert fetch("ash", version("ash"))
    dispatcher.move_misplaced()
    assert owners() == {"db": "fast", "shop": "birch", "mail": "birch"}


def test_a_change_of_the_other_server_after_adopting_is_not_taken_for_ours(there: Path) -> None:
    adopt(there, "--apply")
    assert Assignment.objects.untold().count() == 3
    fetch("birch", version("birch") + 10**9)
    assert Assignment.objects.untold().count() == 3
    fetch("birch", version("birch"))
    assert Assignment.objects.untold().count() == 1


def test_no_rebalance_moves_what_was_adopted_before_its_node_fetched_it(there: Path) -> None:
    def all_on_birch(document: Any) -> None:
        first, second = document["nodes"]
        second["configs"] += first["configs"]
        first["configs"] = []

    adopt(changed(there, all_on_birch), "--apply")
    assert plans.rebalance(actor="eve", force=True, unlimited=True)[1] == []


def age(*names: str) -> None:
    """Let these nodes have been heard last longer ago than the timeout."""
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - 2 * conf.NODE_EXPIRATION_TIMEOUT)


def pass_after(seconds: float) -> list[str]:
    """Let a pass run when so much time has gone since nodes were last heard. Returns what it logged, by name."""
    past = timedelta(seconds=seconds)
    Heartbeat.objects.update(seen_at=F("seen_at") - past)
    NodeEvent.objects.update(time=F("time") - past)
    Hearing.objects.update(last_pass=Now())
    with structlog.testing.capture_logs() as logged:
        dispatcher.run_pass(ClusterStore.objects.get().term)
    return [line["event"] for line in logged]


def needs() -> list[str]:
    """The kinds of what status tells. It must end with 1."""
    out = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("status", "--json", stdout=out)
    assert end.value.code == 1, out.getvalue()
    return [need["kind"] for need in json.loads(out.getvalue())["needs"]]


@pytest.mark.parametrize("warmup", [False, True])
def test_until_the_first_node_reports_only_that_is_told_and_logged_once(there: Path, *, warmup: bool) -> None:
    Hearing.objects.update(warmup=warmup, last_pass=Now())
    dispatcher.schedule([sent("new", name="ntp")])
    adopt(there, "--apply")
    assert needs() == ["adopted"]
    assert alerts.current()[0].cause.startswith(
        "Adopted 2 nodes with 3 configs, none has reported yet: switch the address"
    )
    logged = [event for _ in range(3) for event in pass_after(200)]
    assert logged.count("no_adopted_node_reported_yet") == 1
    assert not {"deaf", "brake_on", "node_silent"} & set(logged)
    assert needs() == ["adopted"]
    assert not NodeEvent.objects.filter(kind=NodeEvent.Kind.SILENT).exists()
    assert owners() | {"db": "ash", "shop": "birch", "mail": "birch"} == owners()


def test_from_the_first_report_on_the_usual_rules_tell_of_the_others(there: Path) -> None:
    adopt(there, "--apply")
    pass_after(200)
    fetch("ash", 0)
    assert "node_silent" in pass_after(0)
    assert {alert.kind for alert in alerts.current()} == {"dead_owner", "silent"}
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}


def test_nobody_is_lost_while_none_came_and_who_never_comes_is_lost_after_a_timeout(there: Path) -> None:
    adopt(there, "--apply")
    store = ClusterStore.objects.get()
    age("ash", "birch")
    dispatcher.run_pass(store.term)
    assert owners() == {"db": "ash", "shop": "birch", "mail": "birch"}
    fetch("ash", 0)
    age("birch")
    dispatcher.run_pass(store.term)
    assert owners()["shop"] == "birch"
    Hearing.objects.update(hearing_since=Now() - 2 * conf.NODE_EXPIRATION_TIMEOUT, braked_since=None)
    age("birch")
    dispatcher.run_pass(store.term)
    assert set(owners().values()) == {"ash"}


def test_the_report_says_what_the_map_will_be(there: Path) -> None:
    dispatcher.schedule([sent("new", name="ntp"), sent("odd", name="odd")])
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="odd")
    report("cedar")
    dispatcher.reassign([Config.objects.get(origins__key="db").pk], "cedar", actor="eve")
    before = Rows()
    lines = adopt(there).splitlines()
    assert Rows() == before
    assert "1 config moves here now:" in lines
    assert any(line.endswith("db: cedar → ash") for line in lines)
    assert any("ntp" in line and ": it does not run there, and would go to " in line for line in lines)
    assert any(
        "odd" in line and line.endswith(": it does not run there, and no node here can have it") for line in lines
    )
    assert any(line.startswith("Why they would run nowhere: ") and "fast" in line for line in lines)
    assert any(line.startswith("The highest load of a node would ") for line in lines)
    told = json.loads(adopt(there, "--json"))
    assert [(one["from_node"], one["to_node"]) for one in told["move"]] == [("cedar", "ash")]
    assert told["needs"] == []


def test_loads_are_those_before_and_after(there: Path) -> None:
    report("ash", "birch")
    Cost.objects.bulk_create(
        Cost(config_id=pk, workers_needed=1.0) for pk in Config.objects.values_list("pk", flat=True)
    )
    [line] = [line for line in adopt(there).splitlines() if line.startswith("The highest load")]
    # Two of them on birch, which has four workers.
    assert line.replace("\u202f", " ") == "The highest load of a node would go from 0 % to about 50 %."


def unaccepted(file: Path) -> str:
    with pytest.raises(CommandError) as error:
        call_command("adopt", "--file", str(file), "--apply", "--as", "olga")
    return str(error.value)


def test_what_would_stop_by_adopting_must_be_accepted(there: Path) -> None:
    dispatcher.unschedule([("file", "db")])
    assert json.loads(adopt(there, "--json", code=1))["needs"] == ["accept_dangling"]
    assert unaccepted(there) == "1 config would run nowhere. --accept-dangling does it all the same"
    assert (owners(), Node.objects.count()) == ({}, 0)
    refusal = Act.objects.get(verb="refuse")
    assert (refusal.person, refusal.object, refusal.reason) == ("olga", "adopt", "1 config would run nowhere.")
    adopt(there, "--apply", "--accept-dangling", code=1)
    assert owners() == {"shop": "birch", "mail": "birch"}
    # What was accepted is on the act.
    told = Act.objects.get(verb="adopt").foreseen
    assert told["worse"] == ["1 config would run nowhere."]
    assert told["tables"]["Stop"] == [["http_check on ash", "it is in no source here"]]


def test_what_rules_leave_no_node_later_must_be_accepted(there: Path) -> None:
    Rule.objects.create(name="fast", required={"disk": "fast"}, check_pattern="*")
    told = json.loads(adopt(there, "--json", code=1))
    assert [one["to_node"] for one in told["move_later"]] == ["", "", ""]
    assert unaccepted(there).startswith("3 configs would run nowhere.")
    report("cedar")
    Node.objects.filter(name="cedar").update(labels={"disk": "fast"})
    lines = adopt(there, code=1).splitlines()
    assert sum(line.endswith("rule fast: it requires disk=fast → cedar") for line in lines) == 3


def test_a_state_that_is_older_than_the_map_says_so(there: Path) -> None:
    assert "It was written" not in adopt(there)
    report("cedar")
    dispatcher.reassign([Config.objects.get(origins__key="db").pk], "cedar", actor="eve")
    os.utime(there, (1_700_000_000,) * 2)
    # Its own moves are not among them.
    for _ in range(2):
        assert "It was written 2023-11-14 22:13:20 UTC; 1 move was made here since." in adopt(there, "--apply")
        Move.objects.filter(reason="adopted").delete()
        os.utime(there, (1_700_000_000,) * 2)
