"""Which statuses declared checks should have, out of what they send and of what is wrong with them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.explain.standing import Standing, State
from checks.sources.kubernetes.declared import wanted
from checks.sources.kubernetes.resources import CLUSTERCHECKS, INSTRUMENTATIONS
from checks.sources.kubernetes.statuses import Key
from checks.sources.source import Problem

RUNNING = Standing(State.RUNNING, "", "ash", "k1", is_ready=True)
DANGLING = Standing(State.DANGLING, "it waits to be placed")


@dataclass
class Declared:
    """A resource, as the mirror has it."""

    name: str
    namespace: str = "shop"
    generation: int = 1
    status: dict[str, Any] = field(default_factory=dict)
    orders: Mapping[str, str] = field(default_factory=dict)


def test_nothing_is_asked_when_nothing_is_declared() -> None:
    def ask(source: str, beginnings: Collection[str]) -> dict[str, Standing]:
        raise AssertionError

    assert wanted([], [], [], ask) == {}


def test_only_the_kinds_that_are_there_are_asked_for() -> None:
    asked: list[Collection[str]] = []

    def ask(source: str, beginnings: Collection[str]) -> dict[str, Standing]:
        asked.append(beginnings)
        return {}

    wanted([Declared("db")], [], [], ask)
    wanted([], [Declared("web")], [], ask)
    assert asked == [["clustercheck/"], ["instrumentation/"]]


def test_each_has_the_status_of_what_it_sends_and_of_its_first_problem() -> None:
    standings = {
        "clustercheck/shop/db": RUNNING,
        "clustercheck/shop/broken": RUNNING,
        "instrumentation/shop/web/endpoints/shop/web/10.0.0.1/nginx": RUNNING,
        "instrumentation/shop/web/endpoints/shop/web/10.0.0.2/nginx": DANGLING,
    }
    problems = [
        Problem("clustercheck shop/broken", None, "first"),
        Problem("clustercheck shop/broken", None, "second"),
        Problem("clustercheck other/db", None, "of another"),
        Problem("datadoginstrumentation shop/odd", None, "odd"),
    ]
    checks = [Declared("db"), Declared("broken"), Declared("new")]
    found = wanted(checks, [Declared("web"), Declared("odd")], problems, lambda *_: standings)
    said = {key: one.status.condition for key, one in found.items()}
    assert {key: (one.is_true, one.reason, one.message) for key, one in said.items()} == {
        Key(CLUSTERCHECKS, "shop", "db"): (True, "Running", "on ash"),
        Key(CLUSTERCHECKS, "shop", "broken"): (False, "Invalid", "first"),
        Key(INSTRUMENTATIONS, "shop", "web"): (False, "Dangling", "1 of 2 checks dangling: it waits to be placed"),
        Key(INSTRUMENTATIONS, "shop", "odd"): (False, "Invalid", "odd"),
    }
