"""When Secrets are read, and what stays known of them while they can't be read."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

import pytest

from checks.sources.kubernetes import secretreader
from checks.sources.kubernetes.secretreader import SecretReader, _Read
from checks.sources.kubernetes.secrets import Handle, Value
from checks.sources.kubernetes.watching import Watcher

USER, PASSWORD, OTHER = Handle("shop", "db", "user"), Handle("shop", "db", "password"), Handle("shop", "mail", "key")
VALUE, AWAY = Value("hunter22"), Value(error="Secret shop/db can't be read: can't connect")


class Thread:
    """The thread of a watcher, whose calls the test answers."""

    def __init__(self) -> None:
        self.calls: list[Future[_Read]] = []

    def call(self, make: Callable[..., Any]) -> Future[_Read]:
        self.calls.append(Future())
        return self.calls[-1]


class Reading:
    """A reader, and what is known."""

    def __init__(self) -> None:
        self.thread, self.known = Thread(), dict[Handle, Value]()
        self.reader = SecretReader(cast(Watcher, self.thread), self.known)

    def step(self, *named: Handle) -> set[Handle]:
        return self.reader.step(frozenset(named))

    def answer(self, found: dict[Handle, Value], failed: dict[Handle, Value] | None = None) -> None:
        self.thread.calls[-1].set_result(_Read(found, failed or {}))

    def due(self) -> dict[tuple[str, str], list[Handle]]:
        return {name: sorted(handles) for name, handles in self.reader._next().items()}


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(secretreader, "AGAIN", 0.0)
    return Reading()


def test_what_is_read_is_known_and_said_once(reading: Reading) -> None:
    assert reading.step(PASSWORD) == set()
    reading.answer({PASSWORD: VALUE})
    assert reading.step(PASSWORD) == {PASSWORD}
    reading.answer({PASSWORD: VALUE})
    assert reading.step(PASSWORD) == set()
    reading.answer({PASSWORD: Value("rotated")})
    assert reading.step(PASSWORD) == {PASSWORD}
    assert reading.known == {PASSWORD: Value("rotated")}


def test_one_read_is_under_way_at_a_time(reading: Reading) -> None:
    for _ in range(3):
        reading.step(PASSWORD)
    assert len(reading.thread.calls) == 1


def test_while_the_server_is_away_what_is_known_stays(reading: Reading) -> None:
    reading.step(PASSWORD, OTHER)
    reading.answer({PASSWORD: VALUE, OTHER: VALUE})
    reading.step(PASSWORD, OTHER)
    reading.answer({}, {PASSWORD: AWAY, OTHER: AWAY})
    assert reading.step(PASSWORD, OTHER, USER) == set()
    reading.answer({OTHER: VALUE}, {USER: AWAY})
    assert reading.step(PASSWORD, OTHER, USER) == {USER}
    assert reading.known == {PASSWORD: VALUE, OTHER: VALUE, USER: AWAY}


def test_what_nobody_names_any_more_is_forgotten(reading: Reading) -> None:
    reading.step(PASSWORD, OTHER)
    reading.answer({PASSWORD: VALUE, OTHER: VALUE})
    assert reading.step(PASSWORD) == {PASSWORD, OTHER}
    assert reading.known == {PASSWORD: VALUE}


def test_a_secret_is_read_at_once_when_a_key_is_new_and_with_all_its_keys(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretreader, "AGAIN", 1000.0)
    reading.step(PASSWORD, OTHER)
    reading.answer({PASSWORD: VALUE, OTHER: VALUE})
    reading.step(PASSWORD, OTHER)
    assert len(reading.thread.calls) == 1
    reading.step(PASSWORD, OTHER, USER)
    assert len(reading.thread.calls) == 2
    assert reading.due() == {("shop", "db"): [PASSWORD, USER]}


def test_a_few_are_read_at_once(reading: Reading) -> None:
    many = [Handle("shop", f"db-{number}", "key") for number in range(25)]
    rounds = 0
    while len(reading.known) < len(many):
        reading.step(*many)
        due = list(reading.due())
        assert len(due) <= secretreader.AT_ONCE
        reading.answer({Handle(*name, "key"): VALUE for name in due})
        rounds += 1
        reading.step(*many)
    assert rounds == 3


def test_secrets_of_each_namespace_are_read_in_turn(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secretreader, "AT_ONCE", 2)
    reading.step(*(Handle("loud", f"db-{number}", "key") for number in range(9)), PASSWORD)
    assert reading.due().keys() == {("loud", "db-0"), ("shop", "db")}
