"""Calls of many threads that share the work, and its error."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from clusteragent.lib.database import together
from clusteragent.lib.database.together import Together

pytestmark = pytest.mark.django_db(transaction=True)


class Work:
    """Doubles numbers; the first time it waits until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.sizes.append(len(numbers))
        self.begun.set()
        assert self.go_on.wait(10)
        if 13 in numbers:
            raise ValueError("13 is refused")
        return [2 * number for number in numbers]


def shared(numbers: Sequence[int]) -> tuple[Work, list["Future[int]"]]:
    """The first number's call, and then those of all others while the work for the first is done."""
    work = Work()
    sharing = Together[int, int](work)
    with ThreadPoolExecutor(len(numbers)) as threads:
        first = threads.submit(sharing.ask, numbers[0])
        assert work.begun.wait(10)
        others = [threads.submit(sharing.ask, number) for number in numbers[1:]]
        wait_for(lambda: len(sharing._waiting) == len(others))
        work.go_on.set()
    return work, [first, *others]


def wait_for(look: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(2000):
        if look():
            return
        deadline.wait(0.005)
    raise AssertionError("not within 10 s")


def test_calls_that_come_meanwhile_share_the_next_turn_and_each_gets_its_own_outcome() -> None:
    work, calls = shared([1, 2, 3, 4])
    assert [call.result() for call in calls] == [2, 4, 6, 8]
    assert work.sizes == [1, 3]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for others that would never end by itself."""
    monkeypatch.setattr(together, "_GATHERING", 1000)


def test_a_turn_waits_for_as_many_as_the_one_before(endless: None) -> None:
    work = Work()
    work.go_on.set()
    sharing = Together[int, int](work)
    sharing._number = 3
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(sharing.ask, 1), threads.submit(sharing.ask, 2)]
        wait_for(lambda: len(sharing._waiting) == 2)
        assert not work.begun.is_set()
        calls.append(threads.submit(sharing.ask, 3))
        assert [call.result(10) for call in calls] == [2, 4, 6]
    assert work.sizes == [3]


def test_a_turn_waits_for_a_moment_only() -> None:
    sharing = Together[int, int](lambda numbers: numbers)
    sharing._number = 3
    assert sharing.ask(1) == 1


def test_who_came_alone_the_last_time_waits_for_nobody(endless: None) -> None:
    sharing = Together[int, int](lambda numbers: numbers)
    assert [sharing.ask(1), sharing.ask(2)] == [1, 2]


def test_an_error_is_every_call_s_that_shared_the_work_and_nobody_else_s() -> None:
    _, calls = shared([1, 13, 3])
    assert calls[0].result() == 2
    for call in calls[1:]:
        with pytest.raises(ValueError, match="13"):
            call.result()


def test_after_an_error_calls_are_answered_again() -> None:
    sharing = Together[int, int](lambda numbers: [1 // number for number in numbers])
    with pytest.raises(ZeroDivisionError):
        sharing.ask(0)
    assert sharing.ask(1) == 1
