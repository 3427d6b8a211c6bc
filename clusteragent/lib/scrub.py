"""Hides secrets in what people read: configs, logs, errors, the ledger.

Rather one harmless value too many than one secret too few. `ENC[...]` is a handle of the agent's secret backend, not
a secret, and stays visible, as do empty values.
"""

import re

MASK = "********"

# Looked for in the lower-case text before anything else, since most texts hold none. Whatever is hidden below, but a
# bare key of 32 hexadecimal digits, holds one of them.
_HINTS = (
    *("pass", "pswd", "pw", "secret", "token", "cred", "communit", "auth", "cookie", "bearer", "jwt", "key", "conn"),
    *("dsn", "sig", "session", "eyj", "-----begin", "@"),
)
_BARE_KEY = re.compile(r"[0-9a-fA-F]{32}")

_WORDS = r"""(?:
    passw | passphrase | passcode | pass(?![a-z]) | pswd | pwd | (?<![a-z])pw(?![a-z]) | secret | token(?!iz)
    | credential | creds?(?![a-z]) | communit | cookie | bearer | jwt | dsn(?![a-z])
    | conn(?:ection)?[^a-z0-9]?str | sig(?:nature)?(?![a-z])
    | auth(?:orization|entication)?(?![a-z]) | session[^a-z0-9]?id
    | (?: access | account | api | app | application | auth | authentication | client | consumer | encryption | hmac
      | licen[cs]e | master | priv | privacy | private | service | session | shared | sign | signing | ssh | storage
      | subscription ) [^a-z0-9]? key
)"""
# Endings of keys that say how or where, not what: auth_type, token_path, privProtocol.
_HARMLESS = r"(?:type|protocol|method|mode|scheme|path|file|dir|timeout|interval|expiration|ttl|url|uri)"

_SECRET_KEY = re.compile(_WORDS, re.IGNORECASE | re.VERBOSE)
_HARMLESS_KEY = re.compile(rf"{_HARMLESS}\Z", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
HANDLE = re.compile(r"ENC\[[^\[\]]*\]")

# Every pattern begins at the start of a word and gives back nothing that it took (`++`), or is bounded: a hostile text
# of a megabyte must not cost more than its length.
_QUOTED = r"""(?P<quote>\\?["'])(?:(?!(?P=quote))(?:\\.|[^\n]))*+(?P=quote)"""
_PAIR = re.compile(
    rf"""(?<![\w.-])(?=[\w.-]*?{_WORDS})(?![\w.-]*{_HARMLESS}\\?["']?[ \t]*+[:=])
    (?P<key>[\w.-]++\\?["']?[ \t]*+(?:(?P<spaced>:[ \t]++)|[:=][ \t]*+))
    (?:{_QUOTED} | [\[{{][^\]}}\n]{{0,4000}}+[\]}}]
      | (?(spaced)(?:[|>][-+\d]*+(?:\n[ \t]++[^\n]*+)++ | [^\n]++) | [^\s&;,]++))""",
    re.IGNORECASE | re.VERBOSE,
)
_FLAG = re.compile(
    rf"""(?<![\w-])(?=--?[\w-]*?{_WORDS})(?P<key>--?[\w-]++[ \t]++)(?!-)(?:{_QUOTED} | \S++)""",
    re.IGNORECASE | re.VERBOSE,
)
_BEARER = re.compile(r"""(?<!\w)(?P<key>bearer[ \t]++)[^\s"',]++""", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN (?P<what>[A-Z0-9 ]{1,60}+)-----.*?(?:-----END (?P=what)-----|\Z)", re.DOTALL)
_USERINFO = re.compile(r"(?<!\S)\S+@")
_BARE = re.compile(
    r"""(?<![\w-])eyJ[\w-]{8,}+\.[\w-]++(?:\.[\w-]*+)?  # a JSON web token
    | (?<![0-9a-z])[0-9a-f]{32}(?:[0-9a-f]{8})?(?![0-9a-z])  # an API or application key of Datadog
    """,
    re.IGNORECASE | re.VERBOSE,
)


def may_hold_secrets(text: str) -> bool:
    """False only when `scrub` would change nothing, and `is_secret` says no. Takes microseconds."""
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            return True
    return _BARE_KEY.search(text) is not None


def scrub(text: str) -> str:
    """Any text (a log line, an error, a value) without its passwords, tokens, keys and credentials in URLs."""
    if not may_hold_secrets(text):
        return text
    text = _USERINFO.sub(_without_password, _PEM.sub(MASK, text))
    for pattern in (_PAIR, _FLAG, _BEARER):
        text = pattern.sub(_masked, text)
    return _BARE.sub(MASK, text)


def is_secret(key: str) -> bool:
    """Whether what stands under this key is to be hidden."""
    if not may_hold_secrets(key) or _HARMLESS_KEY.search(key):
        return False
    return any(_SECRET_KEY.search(form) for form in (key, _CAMEL.sub("_", key)))


def _without_password(match: re.Match[str]) -> str:
    """`scheme://user:password@` or `user:password@`; of `https://something@` the something is a token."""
    scheme, slashes, userinfo = match[0][:-1].partition("://")
    if not slashes:
        scheme, userinfo = "", scheme
    user, colon, _ = userinfo.partition(":")
    if colon:
        return f"{scheme}{slashes}{user}:{MASK}@"
    if scheme.endswith(("http", "https")) and "/" not in user:
        return f"{scheme}{slashes}{MASK}@"
    return match[0]


def _masked(match: re.Match[str]) -> str:
    key, quote = match["key"], match.groupdict().get("quote") or ""
    value = match[0][len(key) :].removeprefix(quote).removesuffix(quote)
    if not value or HANDLE.fullmatch(value.strip()):
        return match[0]
    return f"{key}{quote}{MASK}{quote}"
