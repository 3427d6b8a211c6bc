"""What came of a deed of several transactions, and what was refused, is on record in full: how many, and the first by name."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from acts.models import Act
from checks import dispatcher, sources
from checks.models import Move
from checks.sources import guards
from checks.tests.balance import furnish
from checks.tests.cast import silence
from checks.tests.operators import config
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from operators.tests import test_acts
from operators.tests.test_acts import World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
world = test_acts.world
_COMMITTING = pytest.mark.django_db(transaction=True)


def outcome(verb: str) -> Act:
    """The act that says what came of a deed of several transactions; the one before it says what was there."""
    found: Any = Act.objects.filter(verb=verb).order_by("pk").last()
    return found  # type: ignore[no-any-return]


def test_an_expiry_says_which_nodes_and_configs(world: World) -> None:
    silence("ash")
    world.run("expirenodes", "--force")
    begun, done = Act.objects.filter(verb="expire").order_by("pk")
    assert (begun.before["nodes"], begun.after) == (["ash"], {"force": True})
    assert (done.object, done.after["expired"], done.after["nodes"]) == ("lost nodes: done", 1, ["ash"])
    assert done.after["moves"] == 3
    assert {(one["config"], one["from"], one["to"]) for one in done.after["first"]} == {
        (f"http_check {name}", "ash", None) for name in ("hand", "mail", "shop")
    }
    assert done in Act.objects.of_config(config("shop").pk) & Act.objects.of_node("ash")


def test_a_dispatch_says_what_dangled_and_where_it_went(world: World) -> None:
    silence("ash")
    dispatcher.expire_nodes(force=True)
    world.run("redispatch", "--force")
    begun, done = Act.objects.filter(verb="dispatch").order_by("pk")
    assert (begun.before["number"], len(begun.before["configs"])) == (3, 3)
    assert (done.object, done.after["moves"]) == ("dangling configs: done", 3)
    assert {one["to"] for one in done.after["first"]} == {"birch"}


def test_a_long_list_of_moves_is_cut_and_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.dispatcher.acting.MOST_BEFORE", 2)
    monkeypatch.setattr("checks.dispatcher.transaction.CHUNK", 1)
    silence("ash")
    world.run("expirenodes", "--force")
    after = outcome("expire").after
    assert (after["moves"], len(after["first"])) == (3, 2)


def test_a_scan_says_what_it_changed(world: World) -> None:
    (world.folder / "new.yaml").write_text("cluster_check: true\ninstances: [{url: new}]\n")
    (world.folder / "bad.yaml").write_text("cluster_check: true\ninstances: [")
    with pytest.raises(CommandError):
        world.run("syncconfigs")
    done = outcome("scan")
    assert (done.object.endswith(": done"), done.after["added"], done.after["added_number"]) == (True, ["new.yaml"], 1)
    assert done.after["errors"] == 1


def test_a_scan_that_could_not_begin_is_on_record_as_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise sources.SyncUnderWay("another sync is under way")

    monkeypatch.setattr(guards, "exclusively", taken)
    with pytest.raises(CommandError):
        world.run("syncconfigs")
    assert (outcome("scan").object, outcome("scan").reason) == ("file: failed", "another sync is under way")


def test_pruning_says_how_much_went(world: World) -> None:
    Move.objects.all().delete()
    Move.objects.create(config_id=1, digest="a" * 16, name="old", time=ago(2 * conf.LEDGER_RETENTION))
    world.run("pruneledger")
    assert outcome("prune").after == {"moves": 1}


def test_a_rebalance_says_where_each_config_was_and_is(world: World) -> None:
    furnish(oak=[1.5, 1.5, 1.5], pine=[])
    world.run("rebalance", "--force")
    [found] = Act.objects.filter(verb="rebalance")
    assert "oak" in {one["node"] for one in found.before}
    assert [one["config"] for one in found.before] == [one["config"] for one in found.after]
    assert not {"oak", None} & {one["node"] for one in found.after}


@_COMMITTING
def test_an_import_says_what_came_and_a_refused_one_is_on_record(world: World) -> None:
    state_file = world.folder / "state"
    call_command("exportstate", str(state_file))
    with pytest.raises(CommandError):
        world.run("importstate", str(state_file))
    refusal = Act.objects.filter(verb="refuse").latest("pk")
    assert (refusal.object, refusal.reason) == ("importstate", "this database has configs or nodes already")
    dispatcher.unschedule([("file", "mail")])
    world.run("importstate", str(state_file), "--merge")
    done = outcome("import")
    assert (done.before["configs"], done.after["new_configs"], done.after["first"]) == (2, 1, ["http_check mail"])


def test_a_refused_emergency_login_is_on_record(world: World) -> None:
    with pytest.raises(CommandError):
        world.run("breakglass", "--user", "olga")
    refusal = Act.objects.filter(verb="refuse").latest("pk")
    assert (refusal.object, refusal.reason) == ("breakglass", "there is a user olga: take another name")
