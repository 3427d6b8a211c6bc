"""Plan, look, apply: what a rebalance would move is worked out, stored, and moved only if it still holds."""

from checks.plans.applying import StalePlan, apply
from checks.plans.making import draft, make, rebalance
from checks.plans.whatif import Outlook, what_if

__all__ = ["Outlook", "StalePlan", "apply", "draft", "make", "rebalance", "what_if"]
