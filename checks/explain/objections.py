"""What must be accepted besides being ordered: configs that run now would run nowhere, or no node would take work. Read-only."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from checks.models import Plan
from clusteragent.lib.words import agreeing, grouped_count, percent
from nodes.models import Node

# What accepts it, as the operators' API names it.
NO_NODE, DANGLING = "accept_no_node", "accept_dangling"
# A smaller rise of the highest load is no news.
NOTICEABLE = 0.01


class Objection(NamedTuple):
    """reason: what is bad, a sentence. accepted_by: NO_NODE or DANGLING."""

    reason: str
    accepted_by: str

    @property
    def option(self) -> str:
        """The option of commands that accepts it."""
        return f"--{self.accepted_by.replace('_', '-')}"


class NotAccepted(Exception):
    """Nothing was done, since nobody accepted what it means."""

    def __init__(self, objections: Sequence[Objection]) -> None:
        self.objections = objections
        super().__init__(" ".join(one.reason for one in objections))


def of(plan: Plan) -> list[Objection]:
    """Return what must be accepted of a plan; nothing once it was applied. A pause is meant to leave configs without a node."""
    if plan.applied_at:
        return []
    if plan.order.get("verb") == "drain":
        return of_closing(plan.order["nodes"])
    return of_dangling(len(left(plan)))


def left(plan: Plan) -> list[dict[str, Any]]:
    """Return the moves of a plan by which configs that should run would run nowhere."""
    return [] if plan.order.get("verb") == "pause" else [move for move in plan.moves if move["to"] is None]


def of_closing(names: Collection[str]) -> list[Objection]:
    """Return what must be accepted if these nodes get nothing new; nothing if others take work, or none of these does now."""
    if not Node.objects.are_last(names):
        return []
    return [no_node()]


def no_node() -> Objection:
    """Return what must be accepted where no node would take work."""
    means = "nothing new is placed, and the checks of a node that dies run nowhere"
    return Objection(f"No node would take work then: {means}.", NO_NODE)


def of_dangling(number: int) -> list[Objection]:
    """Return what must be accepted if so many configs that run now would run nowhere."""
    return [Objection(nowhere(number), DANGLING)] if number else []


def nowhere(number: int) -> str:
    """Return the sentence that says that so many configs would run nowhere, which pages show in red."""
    return f"{grouped_count(number, 'config')} would run nowhere."


def why_nowhere(reasons: Iterable[str], number: int = 2) -> list[str]:
    """Return the sentences that say why so many configs would run nowhere."""
    return [f"Why {agreeing(number, 'it', 'they')} would run nowhere: {reason}." for reason in reasons]


def worse(peak: Sequence[float], nowhere_: int) -> list[str]:
    """Return in which ways something makes things worse, in words that pages show in red.

    peak: the highest load before and after, if it is known. nowhere_: how many configs would run nowhere.
    """
    found = [nowhere(nowhere_)] if nowhere_ else []
    if len(peak) == 2 and peak[1] - peak[0] >= NOTICEABLE:
        found.append(f"It raises the highest load from {percent(peak[0])} to {percent(peak[1])}.")
    return found


def require_accepted(objections: Sequence[Objection], accepted: Collection[str]) -> None:
    """Raise NotAccepted for those of them that are not accepted. What was, is for the caller to note with the act."""
    if rest := [one for one in objections if one.accepted_by not in accepted]:
        raise NotAccepted(rest)
