"""The address of the client that makes a call."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings

from clusteragent.lib import conf

Address = IPv4Address | IPv6Address
# Addresses of X-Forwarded-For that are read, from the right. A longer list is an attempt to cost time.
MOST_PROXIES = 20


def address(meta: Mapping[str, Any]) -> Address | None:
    """Return the client's address: the socket's peer, or what proxies say it is that this port trusts.

    Those are CLUSTERAGENT_AGENT_PROXIES on the port of node agents, and CLUSTERAGENT_TRUSTED_PROXIES elsewhere. Each proxy
    appends to X-Forwarded-For, so only what a trusted proxy added counts: the last address that is not a trusted proxy's.
    meta: the WSGI environ of the request. None for a call that came without a socket.
    """
    found, trusted = peer(meta), conf.AGENT_PROXIES if settings.PORT == "agents" else conf.TRUSTED_PROXIES
    forwarded = str(meta.get("HTTP_X_FORWARDED_FOR", "")).split(",")[-MOST_PROXIES:]
    while found and forwarded and any(found in one for one in trusted):
        named = _parsed(forwarded.pop().strip())
        if named is None:
            break
        found = named
    return found


def peer(meta: Mapping[str, Any]) -> Address | None:
    """Return the address of the socket's peer, whatever headers say. None for a call that came without a socket."""
    return _parsed(str(meta.get("REMOTE_ADDR", "")))


def network(client: Address | None) -> str:
    """Return the range from which one client can choose its address: the IPv4 address itself, or the /64 of IPv6."""
    if client is None:
        return ""
    return str(client) if client.version == 4 else str(ip_network((client, 64), strict=False))


def _parsed(text: str) -> Address | None:
    """Parse `::1`, `127.0.0.1`, `127.0.0.1:5006` or `[::1]:5006`; None for anything else."""
    host = text.rpartition(":")[0] if text.count(":") == 1 or "]:" in text else text
    try:
        found = ip_address(host.strip("[]"))
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return found
    # Without its scope (`fe80::1%eth0`), which names an interface of this machine, and which PostgreSQL does not take.
    return found.ipv4_mapped or IPv6Address(int(found))
