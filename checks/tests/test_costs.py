"""What configs cost: as measured, else as others of the same check do, else as all do, else one."""

import pytest

from checks import costs, dispatcher
from checks.models import Assignment, Config, Cost
from checks.tests.cast import report, sent
from nodes.models import Node, Runner

pytestmark = pytest.mark.usefixtures("warm")


def schedule(**checks: str) -> None:
    """Configs by their origin's key, and the check of each."""
    dispatcher.schedule([sent(key, name=check) for key, check in checks.items()])


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def node(name: str) -> int:
    return Node.objects.get(name=name).pk


def measured(**workers: float) -> None:
    for key, needed in workers.items():
        Cost.objects.update_or_create(config_id=id_of(key), defaults={"workers_needed": needed})


def expected() -> dict[str, float]:
    return {Config.objects.get(pk=pk).origins.get().key: cost for pk, cost in costs.expected().items()}


def test_while_nothing_is_measured_every_config_costs_one() -> None:
    schedule(a="ntp", b="disk")
    assert expected() == {"a": 1, "b": 1}
    assert costs.means().of("ntp") == 1


def test_an_unmeasured_config_costs_what_the_same_check_does_on_average_else_what_all_do() -> None:
    schedule(a="ntp", b="ntp", c="ntp", d="disk", e="http_check")
    measured(a=0.1, b=0.3, d=0.8)
    assert expected() == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.8, "e": 0.4})
    assert [costs.means().of(check) for check in ("ntp", "disk", "snmp")] == pytest.approx([0.2, 0.8, 0.4])


def test_only_the_wanted_configs_are_told() -> None:
    schedule(a="ntp", b="ntp")
    measured(a=0.1)
    assert costs.expected([id_of("b")]) == pytest.approx({id_of("b"): 0.1})
    assert costs.expected([]) == {}


def test_endpoint_checks_are_not_dispatched_so_they_have_no_cost() -> None:
    dispatcher.schedule([sent("a", node_name="ash")])
    assert costs.expected() == {}


def test_a_node_bears_what_its_configs_cost_and_what_is_its_own() -> None:
    report("ash", "birch")
    schedule(a="ntp", b="ntp", c="ntp")
    Assignment.objects.update(node=node("ash"))
    measured(a=0.1, b=0.3)
    Runner.objects.create(node_id=node("birch"), own_load=0.7)
    assert costs.by_node() == pytest.approx({node("ash"): 0.6, node("birch"): 0.7})


def test_a_node_has_the_workers_that_it_named_else_four() -> None:
    report("ash", "birch", "cedar")
    Runner.objects.create(node_id=node("ash"), workers=16)
    Runner.objects.create(node_id=node("birch"), workers=None)
    assert costs.workers() == {node("ash"): 16, node("birch"): 4, node("cedar"): 4}


def test_an_edited_config_keeps_its_cost() -> None:
    schedule(a="ntp")
    measured(a=0.25)
    dispatcher.schedule([sent("a", name="ntp", url="http://elsewhere")])
    assert expected() == {"a": 0.25}
