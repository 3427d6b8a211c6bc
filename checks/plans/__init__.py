"""Plans of orders and rebalances: made without changing anything, applied only if nothing they name has changed."""

from checks.dispatcher import StalePlan
from checks.plans.making import draft, make, rebalance
from checks.plans.store import (
    MOVE_FIELDS,
    apply,
    can_be_decided_anew,
    complete_drain,
    decide_anew,
    decide_undo,
    may_apply,
    needed,
    order,
    pinned_by,
    replaced_by,
    require_applicable,
    store,
    to_plan,
    ways_back,
    why_outside,
    why_stale,
)
from checks.plans.whatif import Outlook, what_if

__all__ = [
    "MOVE_FIELDS", "Outlook", "StalePlan", "apply", "can_be_decided_anew", "complete_drain", "decide_anew", "decide_undo",
    "draft", "make", "may_apply", "needed", "order", "pinned_by", "rebalance", "replaced_by", "require_applicable", "store",
    "to_plan", "ways_back", "what_if", "why_outside", "why_stale",
]  # fmt: skip
