"""Who is at the other end of a call."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from clusteragent.lib import conf

Address = IPv4Address | IPv6Address
# Of X-Forwarded-For, from the right: who writes more of them wants to keep us busy.
MOST_PROXIES = 20


def address(meta: Mapping[str, Any]) -> Address | None:
    """Where a call comes from: the socket's other end, or what the proxies of CLUSTERAGENT_TRUSTED_PROXIES say of it.

    X-Forwarded-For grows at its right end, so only what a trusted proxy added counts: its last address that is no trusted
    proxy's. meta: the request's, as WSGI has it. None for a call that came by no socket.
    """
    found = _parsed(str(meta.get("REMOTE_ADDR", "")))
    forwarded = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")[-MOST_PROXIES:]
    while found and forwarded and _is_trusted(found):
        told = _parsed(forwarded.pop().strip())
        if told is None:
            break
        found = told
    return found


def network(client: Address | None) -> str:
    """What one client can choose its addresses from: of IPv6 a /64."""
    if client is None:
        return ""
    return str(client) if client.version == 4 else str(ip_network((client, 64), strict=False))


def _parsed(text: str) -> Address | None:
    """The address of `::1`, `127.0.0.1`, `127.0.0.1:5006` or `[::1]:5006`."""
    host = text.rpartition(":")[0] if text.count(":") == 1 or "]:" in text else text
    try:
        found = ip_address(host.strip("[]"))
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _is_trusted(client: Address) -> bool:
    return any(client in one for one in conf.TRUSTED_PROXIES)
