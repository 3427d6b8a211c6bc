"""Plans of orders and rebalances: made without changing anything, applied only if nothing they name has changed."""

from checks.dispatcher import StalePlan
from checks.plans.making import draft, make, rebalance
from checks.plans.store import (
    MOVE_FIELDS,
    apply,
    complete_drain,
    decide_undo,
    may_apply,
    may_undo,
    order,
    pinned_by,
    store,
    to_plan,
)
from checks.plans.whatif import Outlook, what_if

__all__ = [
    "MOVE_FIELDS", "Outlook", "StalePlan", "apply", "complete_drain", "decide_undo", "draft", "make", "may_apply", "may_undo",
    "order", "pinned_by", "rebalance", "store", "to_plan", "what_if",
]  # fmt: skip
