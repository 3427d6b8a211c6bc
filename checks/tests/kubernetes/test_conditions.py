"""What statuses of resources say: pure."""

from typing import Any

import pytest

from checks.explain.standing import Standing, State
from checks.sources.kubernetes.conditions import Condition, Status, merged, of_clustercheck, of_instrumentation
from checks.sources.kubernetes.resources import Object

NOW = "2026-01-01T00:00:00Z"
RUNNING = Standing(State.RUNNING, "", "ash", "k1", is_ready=True)
DANGLING = Standing(State.DANGLING, "it waits to be placed", "", "k1")


def said(
    standing: Standing | None = RUNNING,
    problem: str = "",
    orders: dict[str, str] | None = None,
    seen: Object | None = None,
) -> tuple[dict[str, Any], Condition]:
    """The fields that are not empty, and the condition."""
    status = of_clustercheck(3, standing, problem, orders or {}, seen or {})
    assert status is not None
    return {key: value for key, value in status.fields.items() if value}, status.condition


@pytest.mark.parametrize(
    ("standing", "problem", "fields", "condition"),
    [
        (RUNNING, "", {"state": "Running", "node": "ash", "id": "k1"}, (True, "Running", "on ash")),
        (
            Standing(State.ACKNOWLEDGED, "no stats from ash", "ash", "k1", is_ready=True),
            "",
            {"state": "Acknowledged", "node": "ash", "id": "k1", "reason": "no stats from ash"},
            (True, "Acknowledged", "no stats from ash"),
        ),
        (
            DANGLING,
            "",
            {"state": "Dangling", "id": "k1", "reason": "it waits to be placed"},
            (False, "Dangling", "it waits to be placed"),
        ),
        # What is broken keeps what it sent before.
        (
            RUNNING,
            "spec.check is missing",
            {"state": "Invalid", "node": "ash", "id": "k1", "reason": "spec.check is missing"},
            (False, "Invalid", "spec.check is missing"),
        ),
        (
            None,
            "spec.check is missing",
            {"state": "Invalid", "reason": "spec.check is missing"},
            (False, "Invalid", "spec.check is missing"),
        ),
    ],
)
def test_a_clustercheck_says_its_state_and_whether_it_is_ready(
    standing: Standing | None, problem: str, fields: dict[str, Any], condition: tuple[bool, str, str]
) -> None:
    assert said(standing, problem) == (fields | {"observedGeneration": 3}, Condition("Ready", *condition))


def test_nothing_is_said_of_what_is_not_known_yet() -> None:
    assert of_clustercheck(1, None, "", {}, {}) is None


def test_an_operators_order_wins_over_the_field_that_orders_the_same() -> None:
    words = {"pin": "pinned to the node ash by alice", "isolation": "alone on its node, since someone isolated it"}
    fields, _ = said(
        Standing(State.RUNNING, "", "ash", "k1", words), orders={"pin": "spec.pin", "pause": "spec.paused"}
    )
    assert fields["override"] == (
        "pinned to the node ash by alice: wins over spec.pin; alone on its node, since someone isolated it"
    )


def test_a_pause_says_who_ordered_it() -> None:
    orders = {"pause": "spec.paused"}
    fields, condition = said(Standing(State.PAUSED, "paused by clustercheck shop/db"), orders=orders)
    assert fields["reason"] == condition.message == "spec.paused"
    fields, _ = said(Standing(State.PAUSED, "paused by alice", overrides={"pause": "paused by alice"}), orders=orders)
    assert fields["reason"] == "paused by alice"
    assert fields["override"] == "paused by alice: wins over spec.paused"
    # Another resource, which sends the same config, ordered it.
    fields, _ = said(Standing(State.PAUSED, "paused by clustercheck shop/db"))
    assert fields["reason"] == "paused by clustercheck shop/db"


def test_a_pause_that_is_not_in_force_is_said() -> None:
    fields, condition = said(RUNNING, orders={"pause": "spec.paused"})
    assert (fields["state"], fields["reason"]) == ("Running", "spec.paused is not in force")
    assert condition == Condition("Ready", False, "Running", "spec.paused is not in force")


@pytest.mark.parametrize(
    ("before", "error", "shown"),
    [
        ("timeout after 3.02 s", "timeout after 4.9 s", "timeout after 3.02 s"),
        ("at 0x7f3a21: no route", "at 0x8e01bc: no route", "at 0x7f3a21: no route"),
        ("timeout after 3 s", "no route", "no route"),
    ],
)
def test_an_error_in_which_only_numbers_change_stays_as_it_is(before: str, error: str, shown: str) -> None:
    failing = Standing(State.FAILING, error, "ash", "k1")
    fields, condition = said(failing, seen={"state": "Failing", "reason": before, "observedGeneration": 3})
    assert fields["reason"] == condition.message == shown
    # What was edited since then may fail for another reason.
    fields, _ = said(failing, seen={"state": "Failing", "reason": before, "observedGeneration": 2})
    assert fields["reason"] == error


def test_a_reason_that_is_not_ours_costs_nothing() -> None:
    seen = {"state": "Failing", "reason": "a" * 1_000_000, "observedGeneration": 3}
    fields, _ = said(Standing(State.FAILING, "no route", "ash", "k1"), seen=seen)
    assert fields["reason"] == "no route"


def test_a_number_in_another_reason_counts() -> None:
    seen = {"state": "Acknowledged", "reason": "no stats from ash-1"}
    fields, _ = said(Standing(State.ACKNOWLEDGED, "no stats from ash-2", "ash-2", "k1"), seen=seen)
    assert fields["reason"] == "no stats from ash-2"


def test_long_reasons_are_cut() -> None:
    assert len(said(None, "x" * 9999)[0]["reason"]) == 1000


@pytest.mark.parametrize(
    ("standings", "problem", "condition"),
    [
        ([RUNNING, Standing(State.ASSIGNED, node="birch")], "", (True, "Dispatched", "2 checks dispatched")),
        ([RUNNING], "", (True, "Dispatched", "1 check dispatched")),
        ([RUNNING], "spec.config is no map", (False, "Invalid", "spec.config is no map")),
        ([], "", (False, "NoChecks", "the Service has no endpoint to check")),
        ([RUNNING, DANGLING], "", (False, "Dangling", "1 of 2 checks dangling: it waits to be placed")),
        ([Standing(State.PAUSED)], "", (False, "Paused", "1 of 1 check paused")),
    ],
)
def test_an_instrumentation_is_ready_when_each_of_its_checks_has_a_node(
    standings: list[Standing], problem: str, condition: tuple[bool, str, str]
) -> None:
    assert of_instrumentation(3, standings, problem) == Status(3, Condition("ChecksReady", *condition))


STATUS = Status(3, Condition("Ready", True, "Running", "on ash"), {"state": "Running", "reason": ""})
SAID: Object = {
    "type": "Ready",
    "status": "True",
    "reason": "Running",
    "message": "on ash",
    "observedGeneration": 3,
    "lastTransitionTime": NOW,
}
OTHER = {"type": "Reviewed", "status": "True"}


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        ({}, {"state": "Running", "conditions": [SAID]}),
        ({"reason": "old", "other": 1}, {"state": "Running", "other": 1, "conditions": [SAID]}),
        ({"conditions": [OTHER]}, {"state": "Running", "conditions": [OTHER, SAID]}),
        ({"conditions": [SAID | {"reason": "Assigned"}, OTHER]}, {"state": "Running", "conditions": [SAID, OTHER]}),
        ({"conditions": [SAID | {"status": "False"}]}, {"state": "Running", "conditions": [SAID]}),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, {"state": "Running", "conditions": [SAID]}),
        # Nobody should write such, but a resource of others may have any schema.
        ({"conditions": "text"}, {"state": "Running", "conditions": [SAID]}),
        ({"conditions": ["text", None, {}]}, {"state": "Running", "conditions": [{}, SAID]}),
    ],
)
def test_what_others_wrote_stays(seen: Object, status: Object) -> None:
    assert merged(seen, STATUS, NOW) == status


def test_the_time_of_a_transition_stays_and_nothing_new_is_equal() -> None:
    before = merged({}, STATUS, NOW)
    assert merged(before, STATUS, "2027-01-01T00:00:00Z") == before
    later = STATUS._replace(generation=4, condition=STATUS.condition._replace(message="on birch"))
    [condition] = merged(before, later, "2027-01-01T00:00:00Z")["conditions"]
    assert condition == SAID | {"message": "on birch", "observedGeneration": 4}
