"""Keys of origins in Kubernetes, in words. Pure."""

import re
from urllib.parse import unquote

_KEY = re.compile(
    r"(?:(?P<scraped>prometheus)/|file/(?P<file>.+)/)?"
    r"(?:service/(?P<service>[^/]+/[^/]+)|endpoints/(?P<behind>[^/]+/[^/]+)/(?P<ip>[^/]+))"
    r"/(?P<check>[^/]+)(?:/(?P<number>[0-9]+))?"
).fullmatch


def described(key: str) -> str:
    """Return a key in words, such as `service shop/web, http_check`; the key itself when it is of another form."""
    found = _KEY(key)
    if not found:
        return key
    target = f"endpoint {found['ip']} of service {found['behind']}" if found["ip"] else f"service {found['service']}"
    number = f" ({found['number']})" if found["number"] else ""
    by = "prometheus: " if found["scraped"] else f"file {unquote(found['file'])}: " if found["file"] else ""
    return f"{by}{target}, {unquote(found['check'])}{number}"


def file_of(key: str) -> str:
    """Return the config file whose template a key comes from; empty for other keys."""
    found = _KEY(key)
    return unquote(found["file"] or "") if found else ""


def service_of(key: str) -> str:
    """Return the `namespace/name` of the Service that a key is of; empty for a key of another form."""
    found = _KEY(key)
    return (found["service"] or found["behind"]) if found else ""
