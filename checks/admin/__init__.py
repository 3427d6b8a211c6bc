"""The admin's pages of checks: configs, nodes with what they run, orders, plans, the ledger, the sources."""

from checks.admin import configs, freezes, ledger, nodes, orders, plans, sources

__all__ = ["configs", "freezes", "ledger", "nodes", "orders", "plans", "sources"]
