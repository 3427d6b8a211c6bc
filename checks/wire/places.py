"""What the instances of a config connect to, in the words of integrations. Pure."""

import re
from typing import NamedTuple

from yaml import MappingNode, ScalarNode

from checks.wire import yamlnodes

# What integrations call the thing that they connect to, the most telling first.
_PLACES = (
    "url", "openmetrics_endpoint", "prometheus_url", "prometheus_endpoint", "endpoint", "server", "host", "hostname", "address",
    "ip_address", "hosts", "servers", "dbname", "database_name",
)  # fmt: skip
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^/@]*@)?", re.IGNORECASE)


class Call(NamedTuple):
    """How an instance may be called: by its name, or by what it connects to. Both may be empty."""

    name: str
    place: str


def place(instance: MappingNode) -> str:
    """Return what the instance connects to, `shop.example:443/health`; empty if it does not say so. instance: without secrets."""
    said = {}
    for key, value in instance.value:
        if isinstance(value, ScalarNode) and value.tag != yamlnodes.NULL:
            said[key.value] = value.value
        elif key.value in ("hosts", "servers") and getattr(value, "value", None):
            first = value.value[0]
            said[key.value] = first.value if isinstance(first, ScalarNode) else ""
    found = next((said[key] for key in _PLACES if said.get(key)), "")
    port = said.get("port", "")
    where = _SCHEME.sub("", found).partition("?")[0].rstrip("/")
    return f"{where}:{port}" if where and port and ":" not in where and "/" not in where else where
