"""Plan, look, apply: what an order or a rebalance would move is worked out, stored, and done only if it still holds."""

from checks.dispatcher import StalePlan
from checks.plans.making import draft, make, rebalance
from checks.plans.store import COLUMNS, apply, drafted, may, order, store
from checks.plans.whatif import Outlook, what_if

__all__ = [
    "COLUMNS", "Outlook", "StalePlan", "apply", "draft", "drafted", "make", "may", "order", "rebalance", "store", "what_if",
]  # fmt: skip
