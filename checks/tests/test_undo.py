"""Undoing a move: the config goes back if that move is still its last one."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.dispatcher import deciding
from checks.models import Move
from checks.models.orders import Pin, Rule
from checks.tests.cast import config, hand_over, ledger, owners, report, sent, silence, versions
from checks.tests.operators import config as stored
from nodes.declarations import canonical
from nodes.models import Hearing, Node

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _moved(warm: None) -> None:
    """`one` was moved from ash to birch, which has nothing else."""
    report("ash")
    dispatcher.schedule([sent("one")])
    report("birch")
    dispatcher.reassign([stored("one").pk], "birch", actor="otto")
    assert owners() == {"one": "birch"}


def last() -> int:
    return Move.objects.latest("id").pk


def refusal(move: int | None = None) -> str:
    """Why a move (the last unless given) is not undone. A preview changes nothing and says the same."""
    id_, before = last() if move is None else move, (owners(), ledger())
    asked = dispatcher.undo_refusals([id_])
    done = dispatcher.undo([id_], actor="olga")
    assert (done.moves, done.refused) == ([], asked)
    assert (owners(), ledger()) == before
    return done.refused[id_]


def test_the_config_goes_back_to_the_node_that_the_move_took_it_from() -> None:
    before = versions()
    assert dispatcher.undo_refusals([last()]) == {}
    done = dispatcher.undo([last()], actor="olga")
    assert done.refused == {}
    assert owners() == {"one": "ash"}
    assert [(move.source_node, move.to_node, move.reason, move.actor) for move in done.moves] == [
        ("birch", "ash", "undone", "olga")
    ]
    assert ledger()[-1] == ("birch", "ash", "undone")
    # ash has had it all the while, since birch did not fetch it.
    assert {node for node, version in versions().items() if version > before[node]} == {"birch"}


def test_an_undo_can_be_undone() -> None:
    dispatcher.undo([last()], actor="olga")
    dispatcher.undo([last()], actor="olga")
    assert owners() == {"one": "birch"}


def test_only_the_last_move_of_a_config_can_be_undone() -> None:
    first = last()
    report("cedar")
    dispatcher.reassign([stored("one").pk], "cedar", actor="otto")
    assert refusal(first) == "it has moved again since"
    assert set(dispatcher.undo([first, last()], actor="olga").refused) == {first}
    assert owners() == {"one": "birch"}


def undone_as_one(*moves: int) -> dict[int, str]:
    """Undo these moves as one, and return why some of them are not undone."""
    decision = deciding.undo(moves, as_one=True)
    dispatcher.commit(decision, actor="olga")
    return dict(decision.refused)


def test_moves_that_follow_each_other_are_undone_as_one() -> None:
    first = last()
    report("cedar")
    dispatcher.reassign([stored("one").pk], "cedar", actor="otto")
    assert undone_as_one(first, last()) == {}
    assert owners() == {"one": "ash"}


def test_what_another_moved_between_is_not_undone_with_the_rest() -> None:
    first = last()
    report("cedar")
    dispatcher.reassign([stored("one").pk], "cedar", actor="eve")
    dispatcher.reassign([stored("one").pk], "ash", actor="otto")
    assert undone_as_one(first, last()) == {first: "it has moved again since"}
    assert owners() == {"one": "cedar"}


def test_a_config_that_came_back_by_itself_stays() -> None:
    first = last()
    dispatcher.reassign([stored("one").pk], "ash", actor="otto")
    assert set(undone_as_one(first, last()).values()) == {"its node has it again"}
    assert owners() == {"one": "ash"}


def test_an_edit_in_place_does_not_hinder() -> None:
    move = last()
    dispatcher.schedule([sent("one", url="http://edited")])
    assert refusal() == "it did not leave its node"
    dispatcher.undo([move], actor="olga")
    assert owners() == {"one": "ash"}


def test_a_config_that_is_gone_stays_gone() -> None:
    move = last()
    dispatcher.unschedule([("file", "one")])
    assert refusal(move) == "the config is gone"


def test_a_config_that_became_an_endpoint_check_stays_there() -> None:
    move, endpoint = last(), config(node_name="ash")
    dispatcher.schedule([dispatcher.Sent("file", "one", endpoint, dispatcher.admit(endpoint))])
    assert refusal(move) == "it has moved again since"


def test_what_a_dead_node_left_is_not_given_back_to_it() -> None:
    hand_over()
    silence("birch")
    dispatcher.expire_nodes(force=True)
    assert refusal() == "it was taken from its node, not given to another"
    dispatcher.redispatch(force=True)
    assert refusal() == "it was on no node just before"


def test_a_paused_config_is_to_be_resumed() -> None:
    dispatcher.pause([stored("one").pk])
    assert refusal() == "it is paused: resume it first"


def test_a_node_that_is_gone_gets_nothing() -> None:
    silence("ash")
    dispatcher.expire_nodes(force=True)
    assert refusal() == "ash is gone"


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"schedulable": False}, "is cordoned"),
        ({"schedulable": False, "draining": True}, "is draining"),
        ({"leaving": True}, "said that it leaves"),
    ],
)
def test_a_node_that_accepts_nothing_gets_nothing(state: dict[str, bool], word: str) -> None:
    Node.objects.filter(name="ash").update(**state)
    assert refusal() == f"ash {word}"


def test_a_silent_node_gets_nothing() -> None:
    silence("ash")
    assert "ash is silent" in refusal()


def test_nothing_goes_back_before_the_warm_up_is_over() -> None:
    Hearing.objects.update(warmup=True)
    assert "warm-up" in refusal()


def test_a_rule_is_named_that_forbids_it() -> None:
    Rule.objects.create(name="gold only", required={"tier": "gold"})
    assert refusal() == "rule gold only: it requires tier=gold"


def test_a_pin_is_named_that_forbids_it() -> None:
    Pin.objects.create(config=stored("one"), source="file", key="one", aim="cedar")
    move = last()
    assert dispatcher.undo_refusals([move]) == {}  # the pin's node is gone: it falls back
    report("cedar")
    assert refusal(move) == "the config is pinned to the node cedar: unpin it first"
    Pin.objects.update(waits=True)
    assert refusal(move) == "the config is pinned to the node cedar: unpin it first"


def test_what_a_node_declares_is_heeded() -> None:
    Node.objects.filter(name="ash").update(declared=canonical(exclude=["http_check"]))
    assert refusal() == "the node declares that it does not run http_check"


def test_a_full_node_gets_no_more() -> None:
    dispatcher.schedule([sent("two")])
    dispatcher.reassign([stored("two").pk], "birch", actor="otto")
    moves = list(Move.objects.filter(reason="operator").values_list("pk", flat=True))
    Node.objects.filter(name="ash").update(max_configs=1)
    done = dispatcher.undo(moves, actor="olga")
    assert len(done.moves) == 1
    assert list(done.refused.values()) == ["ash may have at most 1 config"]


def test_a_node_that_is_kept_for_another_gets_nothing() -> None:
    dispatcher.schedule([sent("two")])
    dispatcher.reassign([stored("two").pk], "ash", actor="otto")
    dispatcher.isolate([stored("two").pk])
    assert "ash is reserved for http_check" in refusal(Move.objects.filter(name="http_check", to_node="birch")[0].pk)


def test_a_move_that_never_was_is_refused() -> None:
    assert refusal(last() + 1) == "the ledger has no such move"


def test_as_many_queries_for_two_moves_as_for_thirty() -> None:
    numbers = []
    for size in (2, 30):
        keys = [f"key-{size}-{number}" for number in range(size)]
        dispatcher.schedule([sent(key) for key in keys])
        ids = [stored(key).pk for key in keys]
        dispatcher.reassign(ids, "ash", actor="otto")
        hand_over()
        dispatcher.reassign(ids, "birch", actor="otto")
        hand_over()
        moves = list(
            Move.objects.filter(config_id__in=ids, to_node="birch", reason="operator").values_list("pk", flat=True)
        )
        with CaptureQueriesContext(connection) as queries:
            assert len(dispatcher.undo(moves, actor="olga").moves) >= size
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]
