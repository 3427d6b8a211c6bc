"""Who should have which config: pure arithmetic, without clock or database."""

from checks.balancing.pool import DEFAULT_WORKERS, Pool, ceiling

__all__ = ["DEFAULT_WORKERS", "Pool", "ceiling"]
