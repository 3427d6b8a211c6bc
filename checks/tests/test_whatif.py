"""What-if simulations of removing and adding nodes: they use placement and planner, and change nothing."""

import json

import pytest
from django.core.management import CommandError, call_command

from checks import dispatcher, plans
from checks.models import Assignment, Config, Move, Plan
from checks.models.orders import Rule
from checks.tests.balance import furnish, routes
from checks.tests.cast import owners, silence, versions
from nodes.models import Heartbeat, Node, UnknownNode

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def placed(outlook: plans.Outlook) -> dict[str, str | None]:
    keys = dict(Config.objects.values_list("pk", "origins__key"))
    return {keys[held.id]: to for held, to in outlook.placed.items()}


def test_a_removed_node_s_configs_go_where_they_would_be_dispatched_again():
    furnish(ash=[0.3, 0.2, 0.1], birch=[0.1], cedar=[0.4])
    outlook = placed(plans.what_if(remove=["ash"]))
    assert outlook["ash-0"] == "birch"
    silence("ash")
    dispatcher.run_pass(0)
    assert {key: node for key, node in owners().items() if key.startswith("ash")} == outlook


def test_added_nodes_get_what_a_rebalance_moves():
    furnish(ash=[0.2] * 4, birch=[0.2] * 4)
    outlook = plans.what_if(add=2)
    assert outlook.placed == {}
    assert set(routes(outlook.plan).values()) == {"new-1", "new-2"}
    assert len(outlook.plan.moves) == 4
    assert outlook.now.peak == pytest.approx(0.2)
    assert outlook.plan.spread["peak"] == [pytest.approx(0.2), pytest.approx(0.1)]


def test_new_nodes_take_what_a_removed_one_had():
    furnish(ash=[0.4] * 3, birch=[0.4] * 3)
    assert set(placed(plans.what_if(remove=["ash"], add=1)).values()) == {"new-1"}


def test_nothing_changes():
    furnish(ash=[0.4] * 4, birch=[])
    before = owners(), versions(), Move.objects.count(), Plan.objects.count()
    plans.what_if(remove=["ash"], add=3)
    assert (owners(), versions(), Move.objects.count(), Plan.objects.count()) == before


def test_what_no_node_may_run_goes_nowhere():
    furnish(ash=[0.4, 0.4], birch=[])
    Rule.objects.create(name="fast", required={"disk": "fast"}, source_pattern="file:ash-0")
    Node.objects.filter(name="ash").update(labels={"disk": "fast"})
    assert placed(plans.what_if(remove=["ash"], add=1))["ash-0"] is None


def test_without_any_node_everything_goes_nowhere():
    furnish(ash=[0.4, 0.4])
    outlook = plans.what_if(remove=["ash"])
    assert set(outlook.placed.values()) == {None}
    assert outlook.plan.spread["peak"] == [0, 0]


def test_a_pin_that_waits_goes_nowhere_and_one_that_falls_back_goes_elsewhere():
    furnish(ash=[0.4, 0.4], birch=[])
    waits, falls = (Config.objects.get(origins__key=f"ash-{number}").pk for number in (0, 1))
    dispatcher.pin([waits], "ash", waits=True)
    dispatcher.pin([falls], "ash")
    assert placed(plans.what_if(remove=["ash"])) == {"ash-0": None, "ash-1": "birch"}


def test_new_nodes_are_runners_where_there_are_any():
    furnish(ash=[0.4] * 4, birch=[])
    Heartbeat.objects.filter(node__name="ash").update(client_ip="10.0.0.1")
    assert set(routes(plans.what_if(add=1).plan).values()) == {"new-1"}


def test_the_names_of_new_nodes_are_free():
    furnish(**{"new-1": [0.4] * 4})
    assert set(routes(plans.what_if(add=1).plan).values()) == {"new-2"}


def test_what_has_not_run_yet_will_have_run_by_then():
    furnish(ash=[0.4] * 4)
    Assignment.objects.update(since="2999-01-01T00:00Z")
    Node.objects.update(config_version=2**62)
    Heartbeat.objects.update(acknowledged=2**62)
    assert len(plans.what_if(add=1).plan.moves) == 2


def test_an_unknown_node_is_named():
    furnish(ash=[0.4])
    with pytest.raises(UnknownNode, match="node nope is unknown"):
        plans.what_if(remove=["nope"])


class TestCommand:
    def test_it_shows_moves_and_spread(self, capsys: pytest.CaptureFixture[str]):
        furnish(ash=[0.4], birch=[0.2])
        call_command("whatif", "--remove", "ash")
        assert capsys.readouterr().out.splitlines() == [
            "1 config would lose their node",
            "http_check ash-0: ash → birch",
            "0 configs would then be rebalanced",
            "peak: 0.100 → 0.150 → 0.150",
            "stddev: 0.025 → 0.000 → 0.000",
        ]

    def test_as_json(self, capsys: pytest.CaptureFixture[str]):
        furnish(ash=[0.4] * 4)
        call_command("whatif", "--add", "1", "--json")
        shown = json.loads(capsys.readouterr().out)
        assert [move["to_node"] for move in shown["moves"]] == ["new-1", "new-1"]
        assert shown["placed"] == []
        assert shown["spread"]["peak"] == pytest.approx([0.4, 0.4, 0.2])

    @pytest.mark.parametrize(
        ("arguments", "message"), [(("--remove", "nope"), "node nope is unknown"), (("--add", "-1"), "allowed is 0")]
    )
    def test_what_makes_no_sense_is_an_error(self, arguments: tuple[str, ...], message: str):
        with pytest.raises(CommandError, match=message):
            call_command("whatif", *arguments)
