"""Tabs that read the first page anew share one answer, and nobody misses what they changed themselves."""

import re
import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks.models import Source
from checks.tests.cast import report
from checks.tests.operators import confirmed, superuser
from operators.pages import now
from operators.pages.shared import Shared
from operators.roles import Role
from operators.tests.cast import user

PAGE, FRAGMENT = "/admin/", "/admin/now/"


@pytest.fixture
def numbers() -> Callable[[], int]:
    """1, 2, 3, …"""
    counter: Iterator[int] = count(1)
    return lambda: next(counter)


def test_an_answer_is_shared_until_it_is_too_old(numbers: Callable[[], int]) -> None:
    assert [Shared(numbers, 3600).get() for _ in range(2)] == [1, 2], "each has its own"
    shared = Shared(numbers, 3600)
    assert [shared.get() for _ in range(3)] == [3, 3, 3]
    shared = Shared(numbers, 0)
    assert [shared.get() for _ in range(2)] == [4, 5]


def test_a_new_answer_is_the_others_too(numbers: Callable[[], int]) -> None:
    shared = Shared(numbers, 3600)
    assert [shared.get(), shared.anew(), shared.get()] == [1, 2, 2]
    shared.forget()
    assert [shared.get(), shared.get()] == [3, 3]


def test_an_answer_that_does_not_know_of_a_change_is_nobody_elses(numbers: Callable[[], int]) -> None:
    def take() -> int:
        number = numbers()
        if number == 1:
            shared.forget()
        return number

    shared = Shared(take, 3600)
    assert [shared.get(), shared.get(), shared.get()] == [1, 2, 2]


def test_an_error_is_told_to_whom_it_happens() -> None:
    answers: Iterator[Callable[[], int]] = iter([lambda: 1 // 0, lambda: 7])
    shared = Shared(lambda: next(answers)(), 3600)
    with pytest.raises(ZeroDivisionError):
        shared.get()
    assert [shared.get(), shared.get()] == [7, 7]


def test_many_at_once_are_one_question(numbers: Callable[[], int]) -> None:
    waiting, asked = threading.Barrier(8), threading.Event()

    def take() -> int:
        asked.wait(10)
        return numbers()

    shared, found = Shared(take, 3600), list[int]()

    def read() -> None:
        waiting.wait(10)
        found.append(shared.get())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    asked.set()
    for thread in threads:
        thread.join(10)
    assert found == [1] * 8


def test_one_that_hangs_keeps_nobody_from_an_answer(numbers: Callable[[], int]) -> None:
    hanging, ends = threading.Event(), threading.Event()

    def take() -> int:
        number = numbers()
        if number == 1:
            hanging.set()
            ends.wait(30)
        return number

    shared = Shared(take, 0.05)
    thread = threading.Thread(target=shared.get)
    thread.start()
    assert hanging.wait(10)
    assert shared.get() == 2
    ends.set()
    thread.join(10)


@pytest.mark.django_db
class TestFirstPage:
    @pytest.fixture(autouse=True)
    def _unhurried(self, warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(now, "_shared", Shared(now.snapshot, 3600))

    def test_tabs_that_read_it_anew_ask_once(self) -> None:
        one, other = superuser(), Client()
        other.force_login(user("otto", Role.VIEWER, is_staff=True))
        for client in (one, other):
            client.get(FRAGMENT)
        with CaptureQueriesContext(connection) as queries:
            assert "Nothing moved." in other.get(FRAGMENT).content.decode()
        asked = " ".join(query["sql"] for query in queries)
        assert "nodes_node" not in asked
        assert "checks_" not in asked

    def test_each_has_the_buttons_that_they_may_press(self) -> None:
        one, other = superuser(), Client()
        other.force_login(user("otto", Role.VIEWER, is_staff=True))
        Source.objects.update(errors=[{"where": "a", "line": 1, "error": "b"}])
        for _ in range(2):
            assert re.search("<button [^>]*pages-main[^>]*>Scan again", one.get(FRAGMENT).content.decode())
            assert re.search("<button [^>]*disabled[^>]*>Scan again", other.get(FRAGMENT).content.decode())
        assert Client().get(FRAGMENT).status_code == 401

    def test_the_page_itself_is_of_now(self) -> None:
        client = superuser()
        assert "0 nodes" in client.get(PAGE).content.decode()
        report("ash")
        assert "0 nodes" in client.get(FRAGMENT).content.decode()
        assert "1 node," in client.get(PAGE).content.decode()
        assert "1 node," in client.get(FRAGMENT).content.decode()

    def test_who_changes_something_sees_it_in_all_tabs(self) -> None:
        client = superuser()
        assert "frozen by" not in client.get(FRAGMENT).content.decode()
        confirmed(client, "/admin/checks/freeze/add/", until="", note="release")
        assert "frozen by" in client.get(FRAGMENT).content.decode()

    def test_what_strangers_try_changes_nothing(self) -> None:
        client = superuser()
        assert "0 nodes" in client.get(FRAGMENT).content.decode()
        report("ash")
        assert Client().post("/api/operator/v1/nodes/ash/cordon").status_code == 401
        assert Client().post("/admin/login/", {"username": "eve", "password": "x"}).status_code == 200
        assert "0 nodes" in client.get(FRAGMENT).content.decode()
