"""Pools: nodes whose names differ only in a generated suffix. Pure: no database."""

import re
from functools import lru_cache

# The characters of Kubernetes' generated names: no vowels, and no digits that look like letters.
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
_SUFFIX = re.compile(
    rf"""(?: -{_SAFE}{{6,10}}-{_SAFE}{{5}}  # a pod of a Deployment
    | -{_SAFE}{{5}}  # a pod of a DaemonSet
    | -[0-9a-f]{{8,}}(?:-[0-9a-z]{{4}})?  # a machine of a cloud, or of GKE
    | (?:[-_.]?\d+)+  # an ordinal, or an address: ip-10-1-2-3
    )\Z""",
    re.VERBOSE,
)


@lru_cache(maxsize=50_000)
def pool_of(name: str) -> str:
    """The name without its generated suffix: `runner-6d4cf56db6-x7k2p` and `runner-12` belong to `runner-*`."""
    host, dot, domain = name.partition(".")
    if host.isdigit():
        return name  # an IP address
    match = _SUFFIX.search(host)
    if not match or not match.start():
        return name
    dash = host[match.start()] if host[match.start()] in "-_" else ""
    return f"{host[: match.start()]}{dash}*{dot}{domain}"
