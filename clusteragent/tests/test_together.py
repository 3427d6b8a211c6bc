"""Calls of many threads that share the work, and its error."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

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
    together = Together[int, int](work)
    with ThreadPoolExecutor(len(numbers)) as threads:
        first = threads.submit(together.ask, numbers[0])
        assert work.begun.wait(10)
        others = [threads.submit(together.ask, number) for number in numbers[1:]]
        wait_for(lambda: len(together._waiting) == len(others))
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


def test_an_error_is_every_call_s_that_shared_the_work_and_nobody_else_s() -> None:
    _, calls = shared([1, 13, 3])
    assert calls[0].result() == 2
    for call in calls[1:]:
        with pytest.raises(ValueError, match="13"):
            call.result()


def test_after_an_error_calls_are_answered_again() -> None:
    together = Together[int, int](lambda numbers: [1 // number for number in numbers])
    with pytest.raises(ZeroDivisionError):
        together.ask(0)
    assert together.ask(1) == 1
