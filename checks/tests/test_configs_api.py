"""The answer to a node: its configs and their version as of one moment, or an error while that may be wrong."""

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks.models import Assignment, Config
from checks.models.configs import Share
from nodes.models import Hearing, Heartbeat
from tests.map import register, store

pytestmark = pytest.mark.django_db


def test_an_answer_is_one_statement(warm: None) -> None:
    store("{}", owner=register("ash", 7))
    with CaptureQueriesContext(connection) as queries:
        assert Config.objects.shares_of(["ash"])[0] == Share(7, "{}")
    assert len(queries) == 1


def test_configs_come_in_the_order_in_which_they_first_came(warm: None) -> None:
    ash = register("ash", 7)
    configs = [store(f'"{letter}"', name=name, owner=ash) for letter, name in zip("abc", "zyx", strict=True)]
    Assignment.objects.filter(config=configs[0]).delete()
    Assignment.objects.create(config=configs[0], node=ash, reason="redispatched")
    assert Config.objects.shares_of(["ash"])[0] == Share(7, '"a","b","c"')


def test_bytes_are_those_stored(warm: None) -> None:
    odd = '{"b": 1.0,  "ä": "\\u00e4 €\\n"}'
    store(odd, owner=register("ash", 7))
    share = Config.objects.shares_of(["ash"])[0]
    assert share is not None
    assert share.configs.encode() == odd.encode()


def test_a_known_node_with_nothing_gets_an_empty_list(warm: None) -> None:
    register("ash", 7)
    store("{}", owner=register("birch"))
    assert Config.objects.shares_of(["ash"])[0] == Share(7, "")


def test_an_unknown_node_and_a_lost_one_get_nothing(warm: None) -> None:
    register("birch")
    Heartbeat.objects.all().delete()
    assert Config.objects.shares_of(["ash"])[0] is None
    assert Config.objects.shares_of(["birch"])[0] is None


@pytest.mark.parametrize("hearing", ["warming up", "absent"])
def test_nothing_is_sure_in_the_warm_up(hearing: str) -> None:
    register("ash")
    if hearing == "absent":
        Hearing.objects.all().delete()
    share = Config.objects.shares_of(["ash"])[0]
    assert share is not None
    assert share.unsure == Config.objects.endpoints_share("ash").unsure == "warming up: nothing is dispatched yet"


def test_shares_of_many_are_one_statement_in_the_order_that_was_asked(warm: None) -> None:
    store("1", owner=register("ash", 7))
    store("2", owner=register("birch", 8))
    with CaptureQueriesContext(connection) as queries:
        shares = Config.objects.shares_of(["birch", "cedar", "ash", "birch"])
    assert shares == [Share(8, "2"), None, Share(7, "1"), Share(8, "2")]
    assert len(queries) == 1


def test_nothing_is_sure_while_what_a_node_lost_still_dangles(warm: None) -> None:
    ash, birch = register("ash"), register("birch")
    store("1", owner=ash)
    lost = store("2", dangling_since=Now(), former_node=ash)
    shares = {name: Config.objects.shares_of([name])[0] for name in ("ash", "birch")}
    assert shares["ash"] is not None
    assert shares["ash"].unsure == "the node came back, and its configs are not dispatched again yet"
    assert shares["birch"] == Share(0, "")
    Config.objects.settle([lost.pk])
    Assignment.objects.create(config=lost, node=birch, reason="redispatched")
    assert Config.objects.shares_of(["ash"])[0] == Share(0, "1")


def test_endpoint_checks_are_their_nodes_alone(warm: None) -> None:
    store('"a"', node_name="ash")
    store('"b"', node_name="birch")
    store('"c"', owner=register("ash"))
    assert Config.objects.endpoints_share("ash") == Share(0, '"a"')
    assert Config.objects.endpoints_share("cedar") == Share(0, "")
    assert Config.objects.endpoints_share() == Share(0, '"a","b"')
