"""Files that trade their names: their checks stay where they are, however many there are, and in whatever order they come."""

from itertools import pairwise, permutations

import pytest

from checks import dispatcher
from checks.dispatcher import Sent, turns
from checks.models import Config, Move
from checks.orders import Pause
from checks.tests.cast import owners, report, sent, versions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _nodes() -> None:
    report("ash", "birch", "cedar")


def renamed(*names: tuple[str, str]) -> list[Sent]:
    """What files send under their new names; each says its first name."""
    return [sent(new, url=f"http://{old}") for old, new in names]


def rows() -> dict[str, int]:
    return dict(Config.objects.values_list("origins__key", "pk"))


@pytest.mark.parametrize("names", list(permutations("abz")))
def test_a_chain_of_renames_moves_nothing(names: tuple[str, ...]) -> None:
    one, other, free = names
    dispatcher.schedule([sent(one), sent(other)])
    before, places, moves = rows(), owners(), Move.objects.count()
    dispatcher.schedule(sorted(renamed((other, free), (one, other)), key=lambda each: each.key))
    dispatcher.unschedule([("file", one)])
    assert rows() == {free: before[other], other: before[one]}
    assert owners() == {free: places[other], other: places[one]}
    assert Move.objects.count() == moves


def test_two_that_trade_their_names_stay_and_keep_their_orders() -> None:
    dispatcher.schedule([sent("a"), sent("b")])
    Pause.objects.create(config=Config.objects.get(origins__key="a"), source="file", key="a")
    before, told, moves = rows(), versions(), Move.objects.count()
    dispatcher.schedule(renamed(("a", "b"), ("b", "a")))
    assert rows() == {"a": before["b"], "b": before["a"]}
    assert (versions(), Move.objects.count()) == (told, moves)
    assert Pause.objects.get().key == "b"


@pytest.mark.parametrize("new", ["aa", "zz"])
def test_a_file_that_is_renamed_and_replaced_keeps_its_check(new: str) -> None:
    dispatcher.schedule([sent("m")])
    before = rows()["m"]
    dispatcher.schedule(sorted([*renamed(("m", new)), sent("m", url="http://fresh")], key=lambda each: each.key))
    assert rows()[new] == before


def test_a_chain_that_is_longer_than_a_step_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "CHUNK", 2)
    names = "abcdefgh"
    dispatcher.schedule([sent(name) for name in names[:-1]])
    before, moves = rows(), Move.objects.count()
    dispatcher.schedule(renamed(*pairwise(names)))
    dispatcher.unschedule([("file", "a")])
    assert rows() == {new: before[old] for old, new in pairwise(names)}
    assert Move.objects.count() == moves
