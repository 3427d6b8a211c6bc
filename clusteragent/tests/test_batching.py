"""Calls that share the work, and its error."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from clusteragent.lib import database
from clusteragent.lib.database import batching
from clusteragent.lib.database.batching import Batcher

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _in_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a web server, where no synchronous program waits for the loop."""
    with ThreadPoolExecutor(1) as thread:

        async def submit(_: ThreadPoolExecutor, work: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(thread, work)

        monkeypatch.setattr(batching, "_in_thread", submit)
        yield
        thread.submit(lambda: database.connection.close()).result(10)


def run(work: Coroutine[Any, Any, T]) -> T:
    async def in_time() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(in_time())


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


async def shared(numbers: Sequence[int]) -> tuple[Work, list[int | BaseException]]:
    """The first number's call, and then those of all others while the work for the first is done."""
    work = Work()
    batcher = Batcher[int, int](work)
    first = asyncio.create_task(batcher.ask(numbers[0]))
    await asyncio.to_thread(work.begun.wait, 10)
    others = [asyncio.create_task(batcher.ask(number)) for number in numbers[1:]]
    await asyncio.sleep(0)  # each of them asks
    work.go_on.set()
    return work, await asyncio.gather(first, *others, return_exceptions=True)


def test_calls_that_come_meanwhile_share_the_next_turn_and_each_gets_its_own_outcome() -> None:
    work, outcomes = run(shared([1, 2, 3, 4]))
    assert outcomes == [2, 4, 6, 8]
    assert work.sizes == [1, 3]


def test_a_turn_has_so_many_items_at_most() -> None:
    async def five() -> list[int]:
        work = Work()
        batcher = Batcher[int, int](work, most=3)
        first = asyncio.create_task(batcher.ask(0))
        await asyncio.to_thread(work.begun.wait, 10)
        others = [asyncio.create_task(batcher.ask(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        work.go_on.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10]
        return work.sizes

    assert run(five()) == [1, 3, 2]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for others that would never end by itself."""
    monkeypatch.setattr(batching, "_GATHERING", 1000)


def free() -> tuple[Work, Batcher[int, int]]:
    work = Work()
    work.go_on.set()
    return work, Batcher[int, int](work)


def test_a_turn_waits_for_as_many_as_the_one_before(endless: None) -> None:
    async def three_and_three() -> list[int]:
        work, batcher = free()
        first = asyncio.create_task(batcher.ask(0))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(batcher.ask(number) for number in (1, 2, 3)))
        two = [asyncio.create_task(batcher.ask(number)) for number in (4, 5)]
        await asyncio.sleep(0)
        assert sum(work.sizes) == 4
        assert await asyncio.gather(*two, batcher.ask(6)) == [8, 10, 12]
        return work.sizes

    assert run(three_and_three()) == [1, 3, 3]


def test_a_turn_waits_for_a_moment_only() -> None:
    async def four_and_one() -> int:
        _, batcher = free()
        await asyncio.gather(*(batcher.ask(number) for number in range(4)))
        return await batcher.ask(1)

    assert run(four_and_one()) == 2


def test_who_came_alone_the_last_time_waits_for_nobody(endless: None) -> None:
    async def one_by_one() -> list[int]:
        _, batcher = free()
        return [await batcher.ask(1), await batcher.ask(2)]

    assert run(one_by_one()) == [2, 4]


def test_an_error_is_every_call_s_that_shared_the_work_and_nobody_else_s() -> None:
    _, outcomes = run(shared([1, 13, 3]))
    assert outcomes[0] == 2
    assert [str(error) for error in outcomes[1:]] == ["13 is refused"] * 2


def test_after_an_error_calls_are_answered_again() -> None:
    async def twice() -> int:
        batcher = Batcher[int, int](lambda numbers: [1 // number for number in numbers])
        with pytest.raises(ZeroDivisionError):
            await batcher.ask(0)
        return await batcher.ask(1)

    assert run(twice()) == 1


def test_a_call_that_is_given_up_keeps_nothing_from_the_others() -> None:
    async def one_leaves() -> int:
        work = Work()
        batcher = Batcher[int, int](work)
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.to_thread(work.begun.wait, 10)
        second, third = asyncio.create_task(batcher.ask(2)), asyncio.create_task(batcher.ask(3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        work.go_on.set()
        return await third

    assert run(one_leaves()) == 6


def test_in_an_outage_nobody_waits_for_who_finds_out_whether_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scout_and_another() -> None:
        work = Work()
        batcher = Batcher[int, int](work)
        monkeypatch.setattr(batching, "is_away", lambda: True)
        scout = asyncio.create_task(batcher.ask(1))
        await asyncio.to_thread(work.begun.wait, 10)
        with pytest.raises(database.Away):
            await batcher.ask(2)
        work.go_on.set()
        assert await scout == 2

    run(scout_and_another())


def test_a_turn_has_the_time_that_its_eldest_call_has_left() -> None:
    left: list[float | None] = []

    async def late() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work(numbers: Sequence[int]) -> list[int]:
            left.append(database.remaining())
            begun.set()
            assert go_on.wait(10)
            return list(numbers)

        batcher = Batcher[int, int](work)
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.to_thread(begun.wait, 10)
        second = asyncio.create_task(batcher.ask(2))
        asked_at = time.monotonic()
        await asyncio.sleep(0.05)
        waited = time.monotonic() - asked_at
        go_on.set()
        await asyncio.gather(first, second)
        assert left[1] is not None
        assert left[1] <= database.LIMIT - waited

    run(late())


def test_a_call_of_a_process_that_was_stopped_is_not_done_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()

    async def stopped() -> list[int | BaseException]:
        work = Work()
        batcher = Batcher[int, int](work)
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.to_thread(work.begun.wait, 10)
        second = asyncio.create_task(batcher.ask(2))
        await asyncio.sleep(0)
        monkeypatch.setattr(batching, "monotonic", lambda: begun + 60)
        third = asyncio.create_task(batcher.ask(3))
        await asyncio.sleep(0)
        work.go_on.set()
        outcomes = await asyncio.gather(first, second, third, return_exceptions=True)
        assert work.sizes == [1, 1]
        return outcomes

    first, second, third = run(stopped())
    assert (first, third) == (2, 6)
    assert isinstance(second, database.Away)
    with pytest.raises(database.Away):
        run(batching.run_alone(lambda: 1, begun))
