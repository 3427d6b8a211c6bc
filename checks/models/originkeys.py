"""Keys of origins in Kubernetes, in words, and the source of what people write. Pure."""

import re
from urllib.parse import unquote

from checks.wire.sharding import parent_of

# The source of the configs that are written in the admin.
ADMIN = "admin"
_KEY = re.compile(
    r"clustercheck/(?P<clustercheck>[^/]+/[^/]+)"
    r"|(?:(?P<scraped>prometheus)/|file/(?P<file>.+)/|instrumentation/(?P<instrumentation>[^/]+/[^/]+)/)?"
    r"(?:service/(?P<service>[^/]+/[^/]+)|endpoints/(?P<behind>[^/]+/[^/]+)/(?P<ip>[^/]+))"
    r"/(?P<check>[^/]+)(?:/(?P<number>[0-9]+))?"
).fullmatch


def source_in_words(name: str) -> str:
    """Return what people call a source: `by hand` for what is written in the admin, a word that means other things, too."""
    return "by hand" if name == ADMIN else name


def described(key: str) -> str:
    """Return a key in words, such as `service shop/web, http_check`; the key itself when it is of another form."""
    found = _KEY(key)
    if not found:
        return key
    if found["clustercheck"]:
        return f"clustercheck {found['clustercheck']}"
    target = f"endpoint {found['ip']} of service {found['behind']}" if found["ip"] else f"service {found['service']}"
    number = f" ({found['number']})" if found["number"] else ""
    return f"{_sender(found)}{target}, {unquote(found['check'])}{number}"


def _sender(found: re.Match[str]) -> str:
    """What made it, if that is not its target itself."""
    if found["file"]:
        return f"file {unquote(found['file'])}: "
    if found["instrumentation"]:
        return f"datadoginstrumentation {found['instrumentation']}: "
    return "prometheus: " if found["scraped"] else ""


def file_of(key: str) -> str:
    """Return the config file whose template a key comes from; empty for other keys."""
    found = _KEY(key)
    return unquote(found["file"] or "") if found else ""


def object_of(key: str) -> tuple[str, str]:
    """Return kind and `namespace/name` of the object that a key is of, such as `service`; twice "" for a key of another form."""
    found = _KEY(key)
    if not found:
        return "", ""
    if found["clustercheck"]:
        return "clustercheck", parent_of(found["clustercheck"])
    return "service", found["service"] or found["behind"]
