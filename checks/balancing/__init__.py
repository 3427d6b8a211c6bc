"""Which node should have which config: pure arithmetic, without clock or database."""

from checks.balancing.cluster import Spread, Stickiness, spread, utilization
from checks.balancing.cohort import tolerated
from checks.balancing.plan import PlannedMove, plan
from checks.balancing.pool import Bar, Pool, ceiling

__all__ = [
    "Bar",
    "PlannedMove",
    "Pool",
    "Spread",
    "Stickiness",
    "ceiling",
    "plan",
    "spread",
    "tolerated",
    "utilization",
]
