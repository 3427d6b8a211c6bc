"""The admin's pages of checks: configs, nodes with what they run, the ledger, the sources."""

from checks.admin import configs, ledger, nodes, sources

__all__ = ["configs", "ledger", "nodes", "sources"]
