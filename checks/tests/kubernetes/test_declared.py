"""Which statuses declared checks should have, out of what they send and of what is wrong with them."""

from collections.abc import Collection
from typing import Any

import pytest

from checks.explain.standing import Standing, State
from checks.sources.kubernetes.clusterchecks import ClusterCheck, read_clustercheck
from checks.sources.kubernetes.declared import wanted
from checks.sources.kubernetes.instrumentations import Instrumentation
from checks.sources.kubernetes.resources import CLUSTERCHECKS, INSTRUMENTATIONS
from checks.sources.kubernetes.statuses import Key
from checks.sources.source import PassedOver, Problem

RUNNING = Standing(State.RUNNING, "", "ash", "k1", is_ready=True)
DANGLING = Standing(State.DANGLING, "it waits to be placed")


def declared(name: str, **spec: Any) -> ClusterCheck:
    metadata = {"namespace": "shop", "name": name, "generation": 1}
    return read_clustercheck({"metadata": metadata, "spec": {"check": "postgres", "instances": [{}], **spec}})


def test_nothing_is_asked_when_nothing_is_declared() -> None:
    def ask(source: str, beginnings: Collection[str]) -> dict[str, Standing]:
        raise AssertionError

    assert wanted([], [], [], ask) == {}


def test_only_the_kinds_that_are_there_are_asked_for() -> None:
    asked: list[Collection[str]] = []

    def ask(source: str, beginnings: Collection[str]) -> dict[str, Standing]:
        asked.append(beginnings)
        return {}

    wanted([declared("db")], [], [], ask)
    wanted([], [], [], ask, [Instrumentation("shop", "web")])
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
    checks = [declared("db"), declared("broken"), declared("new"), declared("mysql")]
    excluded = [PassedOver("clustercheck shop/mysql", "mysql is excluded")]
    found = wanted(
        checks, problems, excluded, lambda *_: standings, [Instrumentation("shop", name) for name in ("web", "odd")]
    )
    said = {key: one.status.condition for key, one in found.items()}
    assert {key: (one.is_true, one.reason, one.message) for key, one in said.items()} == {
        Key(CLUSTERCHECKS, "shop", "db"): (True, "Running", "on ash"),
        Key(CLUSTERCHECKS, "shop", "broken"): (False, "Invalid", "first"),
        Key(CLUSTERCHECKS, "shop", "mysql"): (False, "Invalid", "mysql is excluded"),
        Key(INSTRUMENTATIONS, "shop", "web"): (False, "Dangling", "1 of 2 checks dangling: it waits to be placed"),
        Key(INSTRUMENTATIONS, "shop", "odd"): (False, "Invalid", "odd"),
    }


@pytest.mark.parametrize(
    ("spec", "override"),
    [
        ({}, "pinned to the node ash by alice"),
        ({"paused": True}, "pinned to the node ash by alice"),
        ({"pin": {"node": "birch"}}, "pinned to the node ash by alice: wins over spec.pin"),
    ],
)
def test_an_override_names_the_field_that_orders_the_same(spec: dict[str, Any], override: str) -> None:
    pinned = Standing(State.RUNNING, "", "ash", "k1", {"pin": "pinned to the node ash by alice"})
    [found] = wanted([declared("db", **spec)], [], [], lambda *_: {"clustercheck/shop/db": pinned}).values()
    assert found.status.fields["override"] == override
