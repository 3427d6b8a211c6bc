"""What statuses of resources say: a state in a word, who has it, why not, and a condition for `kubectl wait`. Pure."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

from checks.sources.kubernetes.resources import Object
from clusteragent.lib.words import plain_count

INVALID, FAILING, PAUSED, DANGLING = "Invalid", "Failing", "Paused", "Dangling"
READY, CHECKS_READY = "Ready", "ChecksReady"
MOST_CHARACTERS = 1000
# Numbers, times, addresses and IDs, in which the errors of two runs differ.
_NUMBER = re.compile("(?<![0-9a-fA-F])[0-9a-fA-F]*[0-9][0-9a-fA-F]*")


class Standing(Protocol):
    """How what a resource sends stands: see checks/explain/standing.py, which stands above this room."""

    @property
    def state(self) -> str:
        """In a word, such as Running."""

    @property
    def reason(self) -> str:
        """Why it does not run."""

    @property
    def node(self) -> str:
        """The nodes that have it."""

    @property
    def id(self) -> str:
        """The short IDs of its configs."""

    @property
    def overrides(self) -> Mapping[str, str]:
        """What operators ordered: {kind of order: words}."""

    @property
    def is_ready(self) -> bool:
        """Whether it runs, as far as its nodes tell."""


class _Nobody(NamedTuple):
    """How a resource stands that sends nothing."""

    state: str = ""
    reason: str = ""
    node: str = ""
    id: str = ""
    overrides: Mapping[str, str] = {}
    is_ready: bool = False


_NOBODY = _Nobody()


class Condition(NamedTuple):
    """A condition of an object. is_true: its status. reason: in one word."""

    type: str
    is_true: bool
    reason: str
    message: str


class Status(NamedTuple):
    """What should be said of an object. generation: of the spec that it is about. fields: besides, empty ones are removed."""

    generation: int
    condition: Condition
    fields: Mapping[str, Any] = {}


def of_clustercheck(
    generation: int, standing: Standing | None, problem: str, orders: Mapping[str, str], seen: Mapping[str, Any]
) -> Status | None:
    """Return the status of a ClusterCheck; None while nothing is known of it.

    standing: None: it sends nothing. problem: what is wrong with it; empty: nothing is. orders: the fields by which it orders
    something, {kind of order: field}. seen: its status as it is.
    """
    if not (standing or problem):
        return None
    found = standing or _NOBODY
    state = INVALID if problem else str(found.state)
    is_ready, reason = found.is_ready and not problem, (problem or found.reason)[:MOST_CHARACTERS]
    if "pause" in orders and "pause" not in found.overrides and not problem:
        is_ready, reason = False, orders["pause"] if state == PAUSED else f"{orders['pause']} is not in force"
    is_same = (seen.get("state"), seen.get("observedGeneration")) == (FAILING, generation)
    if state == FAILING and is_same and _are_alike(reason, seen.get("reason")):
        reason = seen["reason"]
    fields = {
        "observedGeneration": generation,
        "state": state,
        "node": found.node,
        "reason": reason,
        "override": "; ".join(_overrides(found, orders)),
        "id": found.id,
    }
    condition = Condition(READY, is_ready, state, reason or f"on {found.node}")
    return Status(generation, condition, fields)


def of_instrumentation(generation: int, standings: Collection[Standing], problem: str, passed_over: str = "") -> Status:
    """Return the status of a DatadogInstrumentation: the condition ChecksReady, and nothing else, which is not ours.

    standings: of all that it sends. problem: what is wrong with it; empty: nothing is. passed_over: why it sends less.
    """
    return Status(generation, _checks_ready(standings, problem[:MOST_CHARACTERS], passed_over))


def _checks_ready(standings: Collection[Standing], problem: str, passed_over: str) -> Condition:
    """True when every check has a node. What becomes of it there changes more often, and is told elsewhere."""
    if problem:
        return Condition(CHECKS_READY, False, INVALID, problem)
    if not standings:
        return Condition(CHECKS_READY, False, "NoChecks", passed_over or "the Service has no endpoint to check")
    checks = plain_count(len(standings), "check")
    for state in (DANGLING, PAUSED):
        if some := [one for one in standings if one.state == state]:
            why = f": {some[0].reason}" if some[0].reason else ""
            return Condition(CHECKS_READY, False, state, f"{len(some)} of {checks} {state.lower()}{why}")
    return Condition(CHECKS_READY, True, "Dispatched", f"{checks} dispatched")


def _overrides(standing: Standing, orders: Mapping[str, str]) -> list[str]:
    return [
        f"{words}: wins over {orders[kind]}" if kind in orders else words for kind, words in standing.overrides.items()
    ]


def _are_alike(error: str, before: object) -> bool:
    """Whether two errors differ only in numbers. Else a check that fails would have another status after each run."""
    if not isinstance(before, str) or len(before) > MOST_CHARACTERS:
        return False
    return _NUMBER.sub("#", error) == _NUMBER.sub("#", before)


def merged(seen: Mapping[str, Any], status: Status, now: str) -> Object:
    """Return the status that an object should have. seen: the one that it has. now: the time of a transition.

    What others wrote stays. If nothing is new, it equals `seen`.
    """
    type_, is_true, reason, message = status.condition
    conditions = seen.get("conditions")
    found = [one for one in conditions if isinstance(one, dict)] if isinstance(conditions, list) else []
    before = next((one for one in found if one.get("type") == type_), {})
    said: Object = {"type": type_, "status": str(is_true), "reason": reason, "message": message}
    is_transition = before.get("status") != said["status"] or not before.get("lastTransitionTime")
    said |= {
        "observedGeneration": status.generation,
        "lastTransitionTime": now if is_transition else before["lastTransitionTime"],
    }
    placed = [said if one is before else one for one in found] if before else [*found, said]
    fields = {**seen, **status.fields, "conditions": placed}
    return {key: value for key, value in fields.items() if value != "" or key not in status.fields}
