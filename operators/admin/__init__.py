"""The admin: every page of a model, its forms and filters. Importing this registers them all."""

from operators.admin import (
    acts,
    cluster,
    configs,
    freezes,
    ledger,
    nodes,
    nodetokens,
    orders,
    people,
    plans,
    rules,
    sources,
    tokens,
)

__all__ = [
    "acts",
    "cluster",
    "configs",
    "freezes",
    "ledger",
    "nodes",
    "nodetokens",
    "orders",
    "people",
    "plans",
    "rules",
    "sources",
    "tokens",
]
