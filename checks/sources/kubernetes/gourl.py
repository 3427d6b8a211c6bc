"""Whether Go's net/url parses a text. The Datadog Cluster Agent decides by it where an IPv6 address gets brackets. Pure."""

import re
from ipaddress import IPv6Address

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:").match
_CONTROL = re.compile("[\x00-\x1f\x7f]").search
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})").search
_USER = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*").fullmatch
_HOST = re.compile(r"""(?:[A-Za-z0-9._~!$&'()*+,;=:\]<>"\x80-\U0010ffff-]|%25|%[89A-Fa-f][0-9A-Fa-f])*""").fullmatch
_PORT = re.compile("(?::[0-9]*)?", re.ASCII).fullmatch


def is_url(text: str) -> bool:
    """Return whether Go parses the text as a URL. Nearly everything is one, but for a colon in what looks like a host."""
    before, _, fragment = text.partition("#")
    if _CONTROL(before) or before.startswith(":") or _BROKEN_ESCAPE(fragment):
        return False
    scheme = _SCHEME(before)
    rest = before[scheme.end() :] if scheme else before
    if not rest.startswith("/") and scheme:
        return True
    rest = rest.partition("?")[0]
    if not rest.startswith("/"):
        return ":" not in rest.partition("/")[0] and not _BROKEN_ESCAPE(rest)
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        return _is_authority(authority) and not _BROKEN_ESCAPE(slash + path)
    return not _BROKEN_ESCAPE(rest)


def _is_authority(text: str) -> bool:
    user, _, host = text.rpartition("@")
    if not _USER(user) or _BROKEN_ESCAPE(user):
        return False
    if host.startswith("["):
        address, bracket, port = host[1:].rpartition("]")
        return bool(bracket and _PORT(port)) and _is_address(address)
    colon = host.rfind(":")
    return bool(_HOST(host) and (colon < 0 or _PORT(host[colon:])))


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text.partition("%25")[0])
    except ValueError:
        return False
    return True
