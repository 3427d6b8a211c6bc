"""Plan, look, apply: what an order or a rebalance would move is worked out, stored, and done only if it still holds."""

from checks.dispatcher import StalePlan
from checks.plans.making import draft, make, rebalance
from checks.plans.store import MOVE_FIELDS, apply, may_apply, order, store, to_plan
from checks.plans.whatif import Outlook, what_if

__all__ = [
    "MOVE_FIELDS",
    "Outlook",
    "StalePlan",
    "apply",
    "draft",
    "make",
    "may_apply",
    "order",
    "rebalance",
    "store",
    "to_plan",
    "what_if",
]  # fmt: skip
