"""Hides secrets in what people read: configs, logs, errors, the ledger.

When in doubt, a value is hidden. A text is a secret because of its key (`password: …`), because of its form
(clusteragent/lib/known_secrets.py), or because it is random (clusteragent/lib/randomness.py). `ENC[...]` is a handle of the
agent's secret backend, not a secret: it stays visible, as do empty values and paths of key files.
"""

import re
from functools import lru_cache
from typing import Any

from clusteragent.lib import known_secrets, randomness

# Raise it when something is hidden that was shown before: stored copies are then made again.
VERSION = 4

MASK = "********"

# Searched first, in the lower-case text. Every text in which something is hidden contains one of them, except for bare keys
# and random texts.
_HINTS = (
    "pass", "pswd", "psw", "pw", "secret", "token", "cred", "communit", "auth", "cookie", "bearer", "jwt", "key", "conn", "dsn",
    "sig", "session", "code", "psk", "pat", "pin", "otp", "hmac", "sas", "mfa", "salt", "unseal", "kennwort", "senha",
    "contrase", "mot_de_passe", "motdepasse", "clave", "parola", "has\u0142o", "haslo", "wachtwoord", "\u5bc6\u7801",
    "\u5bc6\u78bc", "\u30d1\u30b9\u30ef\u30fc\u30c9", "\u043f\u0430\u0440\u043e\u043b\u044c", "login", "user", "account", "@",
    *known_secrets.HINTS,
)  # fmt: skip

_WORDS = r"""(?:
    passw | passphrase | passcode | passkey | (?<!by)(?<!com)pass(?![a-z]) | pswd | psw(?![a-z]) | pwd
    | (?:(?<![a-z])|(?<=\\[nrt]))pw(?![a-z]) | (?: admin | bind | client | db | ftp | http | key | ldap | login | mail | my
      | proxy | root | smtp | store | user ) pw(?![a-z])
    | secret | token(?!iz) | credential | creds?(?![a-z]) | communit | cookie | bearer | jwt | dsn(?![a-z])
    | conn(?:ection)?[^a-z0-9]?str | sig(?:nature)?(?![a-z])
    | auth(?:orization|entication)?(?![a-z]) | session[^a-z0-9]?id
    | hmac | (?<![a-z])t?otp(?![a-z]) | (?<![a-z])(?: psk | mfa | sas | salt | pat | pin )(?![a-z]) | unseal
    | (?: access | backup | recovery | security | verification ) [^a-z0-9]? code
    | kennwort | (?<![a-z])senha | contrase | mot_?de_?passe | (?<![a-z])clave(?![a-z]) | (?<![a-z])parola
    | has[l\u0142]o(?![a-z]) | wachtwoord
    | \u5bc6\u7801 | \u5bc6\u78bc | \u30d1\u30b9\u30ef\u30fc\u30c9 | \u043f\u0430\u0440\u043e\u043b\u044c
    | (?: access | account | aes | api | app | application | auth | authentication | cipher | client | consumer | crypto
      | deploy | dsa | ecdsa | encryption | functions | gpg | hash
      | hmac | https? | ingest | integration | jwk | kek | license | licence
      | master | oauth | pgp | preshared | pre[^a-z0-9]?shared | priv | privacy | private | root | rsa | secret | server
      | service | session | shared | sign | signing | ssh | ssl | storage | subscription | tls | user | webhook | wireguard
      | wrap | wrapping | write ) [^a-z0-9]? key
)"""
# Endings of keys whose values describe a secret but are none: auth_type, token_path, privProtocol, signature_version.
_HARMLESS = r"""(?: type | protocol | method | mode | scheme | path | file | filename | dir | directory | timeout | interval
    | expir\w{0,8} | lifetime | ttl | url | uri | version | name | enabled | required | database | db | source | plugin
    | provider | class | algo(?:rithm)? | format | encoding | policy | length | size | count | limit | kerberos_auth
    | (?: max | min | num )_? tokens? )"""

_SECRET_KEY = re.compile(_WORDS, re.IGNORECASE | re.VERBOSE)
_HARMLESS_KEY = re.compile(rf"{_HARMLESS}\Z", re.IGNORECASE | re.VERBOSE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LOGIN_KEY = re.compile(r"(?:login|user|username|userpwd|account)s?\Z", re.IGNORECASE)
# The value of such a key is a cryptographic key, or the path of its file.
_KEY_OR_FILE = re.compile(
    r"(?:ca|cert\w*|client|host|https?|pem|priv|private|rsa|server|ssh|ssl|tls)[^a-z0-9]?key\Z", re.IGNORECASE
)
_PATH = re.compile(
    r"(?:file:|[.~]?\.?/|[A-Za-z]:[\\/]|\$\w{1,50}/|\$\{\w{1,50}\}/)[\w .:/\\-]*[/\\][\w .-]*|/[\w.-]+\.\w{1,10}",
    re.ASCII,
)
_MOST_IN_A_KEY = 100
HANDLE = re.compile(r"ENC\[[^\[\]]*\]")

# Every pattern begins at the start of a word and is possessive (`++`) or bounded: the time for a hostile text of a megabyte
# must be in proportion to its length. A quote may be escaped several times, as in JSON in JSON.
_QUOTED = r"""(?:(?P<quote>["'])(?:(?!(?P=quote))(?:\\.|[^\n]))*+(?P=quote)
    | (?P<escaped>\\{1,15}+["'])(?:(?!(?<!\\)(?P=escaped))[^\n])*+(?P=escaped))"""
_END_OF_KEY = r"""(?:\\{0,15}+["']|%22)?"""
# The sign between key and value in configs, programs and URLs, and the scheme before a header's value.
_IS = r"""(?:[:=][=>~]?|%3[ad]|\\{1,9}u003[ad])[ \t]*+(?:(?:basic|bearer|digest|negotiate|token)[ \t]++)?"""
_SECRET_NAME = rf"""(?=[\w.-]*?{_WORDS})(?![\w.-]*{_HARMLESS}{_END_OF_KEY}[ \t]*+(?:[:=,;\s]|\Z))[\w.-]++"""
# So MySQL says whether one was given, which is the cause that somebody looks for. It may stand in brackets and quotes of others.
_WHETHER = r"""(?<=\(using[ ])password:[ ](?:YES|NO)\)[)\]}]{0,9}+(?:\Z|[\s"',.;:]|\\{1,15}+["'n])"""
# The cheap look ahead comes first: most words are followed by no sign.
_PAIR = re.compile(
    rf"""(?<![\w.-])(?=[\w.-]++{_END_OF_KEY}[ \t]*+(?:[:=%]|\\))(?!{_WHETHER})(?=[\w.-]*?{_WORDS})
    (?![\w.-]*{_HARMLESS}{_END_OF_KEY}[ \t]*+[:=])
    (?P<key>[\w.-]++{_END_OF_KEY}[ \t]*+(?:(?P<spaced>:[ \t]++)|{_IS}))
    (?:{_QUOTED} | [\[{{][^\]}}\n]{{0,1000}}+[\]}}] | \([^()\n]{{0,1000}}+\)
      | (?(spaced)(?:[|>][-+\d]*+(?:\n[ \t]++[^\n]*+)++ | [^\n]++) | [^\s&;,]++))""",
    re.IGNORECASE | re.VERBOSE,
)
_FLAG = re.compile(
    rf"""(?<![\w-])(?=--?[\w-]*?{_WORDS})(?P<key>--?[\w-]++[ \t]++)(?!-)(?:{_QUOTED} | \S++)""",
    re.IGNORECASE | re.VERBOSE,
)
# {"Name": "DB_PASSWORD", "Value": …} in either order; <add key="ApiKey" value="…"/>.
_NAME = r"(?:\w{0,20}(?:name|key)|header|variable|param(?:eter)?|option|property|field|k|n)"
_VALUE = r"(?:\w{0,20}value|val|v|contents?|data)"
_NAMED = re.compile(
    rf"""(?<![\w.-])(?P<key>{_NAME}{_END_OF_KEY}\s{{0,9}}[:=]\s{{0,9}}{_END_OF_KEY}{_SECRET_NAME}{_END_OF_KEY}
    \s{{0,9}}[,;]?\s{{0,99}}-?{_END_OF_KEY}{_VALUE}{_END_OF_KEY}\s{{0,9}}[:=]\s{{0,9}})(?:{_QUOTED} | [^\s&;,}}>]++)""",
    re.IGNORECASE | re.VERBOSE,
)
_NAMED_AFTER = re.compile(
    rf"""(?<![\w.-])(?P<key>{_VALUE}{_END_OF_KEY}\s{{0,9}}[:=]\s{{0,9}})(?:{_QUOTED} | [^\s&;,}}>"'\\]{{1,300}}+)
    (?=\s{{0,9}}[,;]?\s{{0,99}}{_END_OF_KEY}{_NAME}{_END_OF_KEY}\s{{0,9}}[:=]\s{{0,9}}{_END_OF_KEY}{_SECRET_NAME})""",
    re.IGNORECASE | re.VERBOSE,
)
# token "…", as some errors write it; <password value="…"/>.
_BESIDE = re.compile(
    rf"""(?<![\w.-])(?=[\w.-]++[ \t]{{1,9}}+(?:value|\\|["']))
    (?P<key>{_SECRET_NAME}[ \t]{{1,9}}+(?:value[ \t]{{0,9}}=[ \t]{{0,9}})?)(?=\\{{0,15}}["'])
    (?:{_QUOTED})""",
    re.IGNORECASE | re.VERBOSE,
)
_XML = re.compile(
    r"(?P<key><(?P<tag>[\w:.-]{1,99})(?:\s[^<>]{0,999})?>)(?:<!\[CDATA\[[^\]]*\]\]>|[^<]+)(?=</(?P=tag)>)"
)
_USERINFO = re.compile(r"(?<!\S)\S+@(?!sha\d{1,3}:)")
# In texts that begin like this, what follows the colon is no password.
_NO_LOGIN = r"(?!(?:arn|urn|system|https?|\w{1,20}://)[:/])(?!\d+:\d+(?!\S))"
_LOGIN = re.compile(
    rf"""(?<![\w.-])(?P<key>(?:[\w.-]{{0,50}}_)?(?:login|user|username|userpwd|account){_END_OF_KEY}[ \t]*+[:=][ \t]*+
    {_END_OF_KEY}{_NO_LOGIN}[^\s:"'@/,;={{}}]{{1,100}}+:(?![/\s]))[^\s"'@,;\\}}]++""",
    re.IGNORECASE | re.VERBOSE,
)
_LOGIN_VALUE = re.compile(rf"(?P<key>{_NO_LOGIN}[^\s:@/]{{1,100}}+:)(?![/\s])\S[^\n]*+")


def may_hold_secrets(text: str) -> bool:
    """Return False only if `scrub` would change nothing and `is_secret` would be False. Takes microseconds."""
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            return True
    return known_secrets.BARE.search(text) is not None or randomness.may_hold(text)


def scrub(text: str) -> str:
    """Return a text (a log line, an error, a value) with MASK in place of passwords, tokens, keys and credentials in URLs."""
    if not may_hold_secrets(text):
        return text
    text = known_secrets.hide_blocks(text, MASK)
    text = _USERINFO.sub(_without_password, text)
    text = known_secrets.hide_in_urls(text, MASK)
    for pattern in (_PAIR, _NAMED, _NAMED_AFTER, _BESIDE, _FLAG, _LOGIN):
        text = pattern.sub(_masked, text)
    text = _XML.sub(_element, text)
    return randomness.hide(known_secrets.hide(text, MASK), MASK)


def scrub_value(key: str, value: str) -> str:
    """Return the value of a key with its secrets masked: the whole value when the key names a secret."""
    if is_secret(key) and not is_key_file(key, value):
        return value if is_empty_or_handle(value) else MASK
    if ":" in value and _LOGIN_KEY.search(key) and (login := _LOGIN_VALUE.fullmatch(value)):
        return f"{login['key']}{MASK}"
    return scrub(value)


def is_secret(key: str) -> bool:
    """Return whether the values of this key are secrets."""
    return _is_secret(key) if len(key) <= _MOST_IN_A_KEY else _is_secret.__wrapped__(key)


@lru_cache(10_000)  # the same keys are in many configs
def _is_secret(key: str) -> bool:
    if not may_hold_secrets(key) or _HARMLESS_KEY.search(key):
        return False
    return any(_SECRET_KEY.search(form) for form in (key, _CAMEL.sub("_", key)))


def is_key_file(key: str, value: str) -> bool:
    """Return whether the value is the path of a key file, not the key itself."""
    return bool(_KEY_OR_FILE.search(_CAMEL.sub("_", key)) and _PATH.fullmatch(value))


def is_empty_or_handle(value: str) -> bool:
    """Return whether a value is empty, or a handle (`ENC[…]`) of a secret that is stored elsewhere."""
    return not value or HANDLE.fullmatch(value) is not None


def _without_password(match: re.Match[str]) -> str:
    """Mask the password of `scheme://user:password@` or `user:password@`, and the token of `https://token@`."""
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
    key, groups = match["key"], match.groupdict()
    quote = groups.get("quote") or groups.get("escaped") or ""
    value = match[0][len(key) :].removeprefix(quote).removesuffix(quote)
    if is_empty_or_handle(value.strip()) or is_key_file(key.rstrip(" \t:=\"'\\"), value):
        return match[0]
    return f"{key}{quote}{MASK}{quote}"


def _element(match: re.Match[str]) -> str:
    value: Any = match[0][len(match["key"]) :]
    hidden = is_secret(match["tag"]) and not is_empty_or_handle(value.strip())
    return f"{match['key']}{MASK}" if hidden else match[0]
