"""reassign: an operator gives configs to a node, or gets the reason why not."""

import pytest

from checks import dispatcher
from checks.models import Config, Move
from checks.tests.cast import dangling, hand_over, owners, report, sent, silence, versions
from nodes.models import Node, UnknownNode

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def ids(*keys: str) -> list[int]:
    return list(Config.objects.filter(origins__key__in=keys).values_list("pk", flat=True))


@pytest.fixture(autouse=True)
def _two_nodes(warm: None) -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two"), sent("three")])


def test_the_configs_go_there_and_both_nodes_get_new_versions():
    before = versions()
    moves = dispatcher.reassign(ids("one", "three"), "birch", actor="eve")
    assert {(m.source_node, m.to_node, m.reason, m.actor) for m in moves} == {("ash", "birch", "operator", "eve")}
    assert owners() == {"one": "birch", "two": "birch", "three": "birch"}
    hand_over()
    assert all(versions()[name] > before[name] for name in before)


def test_what_is_there_already_does_not_move():
    before = versions()
    assert dispatcher.reassign(ids("one"), "ash", actor="eve") == []
    assert versions() == before


def test_a_dangling_config_can_be_given_to_a_node():
    Node.objects.all().cordon()
    dispatcher.schedule([sent("late")])
    Node.objects.filter(name="ash").cordon(schedulable=True)
    dispatcher.reassign(ids("late"), "ash", actor="eve")
    assert owners()["late"] == "ash"
    assert not dangling()


def test_an_unknown_node_is_named():
    with pytest.raises(UnknownNode, match="node nope is unknown"):
        dispatcher.reassign(ids("one"), "nope", actor="eve")


def test_a_lost_node_is_unknown():
    silence("birch")
    dispatcher.expire_nodes()
    with pytest.raises(UnknownNode, match="birch"):
        dispatcher.reassign(ids("one"), "birch", actor="eve")


def test_a_cordoned_node_accepts_nothing():
    Node.objects.filter(name="birch").cordon()
    with pytest.raises(dispatcher.NotAccepting, match="birch is cordoned"):
        dispatcher.reassign(ids("one"), "birch", actor="eve")


def test_a_node_silent_beyond_the_timeout_accepts_nothing():
    silence("birch")
    with pytest.raises(dispatcher.NotAccepting, match="birch is silent"):
        dispatcher.reassign(ids("one"), "birch", actor="eve")


def test_an_endpoint_check_can_not_be_assigned():
    dispatcher.schedule([sent("pod", node_name="kubelet-1")])
    with pytest.raises(dispatcher.NotDispatchable, match="endpoint check"):
        dispatcher.reassign(ids("pod", "one"), "birch", actor="eve")
    assert owners()["one"] == "ash"


def test_a_config_that_is_gone_is_refused_and_nothing_moves():
    gone = ids("one")
    dispatcher.unschedule([("file", "one")])
    before = Move.objects.count()
    with pytest.raises(dispatcher.NotDispatchable, match="does not exist"):
        dispatcher.reassign([*gone, *ids("three")], "birch", actor="eve")
    assert Move.objects.count() == before
