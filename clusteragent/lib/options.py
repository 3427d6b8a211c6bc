"""Reading options from the environment: a function for each type, with a clear error for a value that is not allowed."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import psycopg
from environs import FileAwareEnv
from psycopg.conninfo import conninfo_to_dict

T = TypeVar("T")

# The hosts of this machine alone.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Option(NamedTuple):
    """What the reference says of an option: its default, empty for none, and what is allowed."""

    default: str
    allowed: str


# All options that were read, in their order.
READ: dict[str, Option] = {}

_env = FileAwareEnv()
_LONGEST = timedelta(days=3650)
_LONGEST_CLUSTER_NAME = 80
# A host and a port; a host's name.
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^:\[\]]*)(:(?P<port>.*))?")
_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NAMESPACE = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# A requirement of labels: `app=runner`, `tier!=test`, `app in (a, b)`, `app`, `!app`.
_KEY, _VALUE = r"[A-Za-z0-9][A-Za-z0-9._/-]*", r"[A-Za-z0-9._-]*"
_REQUIREMENT = (
    rf"\s*(!?{_KEY}|{_KEY}\s*(==?|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s*\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\))\s*"
)
_SELECTOR = re.compile(rf"{_REQUIREMENT}(,{_REQUIREMENT})*")
# The name of a header, and what OpenTelemetry allows in `name=value`.
_TOKEN = re.compile(r"[!#$&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"""[^",;\\\x00-\x1f\x7f-\U0010ffff]*""")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class OptionError(Exception):
    """An option has a value that is not allowed."""


def option(name: str, default: T, parse: Callable[[str], T | None], allowed: str, shown: str = "") -> T:
    """Return the option's value, or its default when unset or empty. Raises OptionError that names option, value and what is
    allowed.

    parse: returns None or raises ValueError for a value that is not allowed.
    shown: the default as it would be given, where it is another text than its value.
    """
    READ.setdefault(name, Option(shown or _shown(default), allowed))
    try:
        raw = _env.str(name, "").strip()
    except ValueError as error:
        raise OptionError(f"{name}_FILE can't be read: {error}") from error
    if not raw:
        return default
    try:
        value = parse(raw)
    except ValueError:
        value = None
    if value is None:
        raise OptionError(f"{name} is {raw!r}, allowed is {allowed}")
    return value


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return _duration(value)
        case None | () | {}:
            return ""
    return str(value)


def _duration(length: timedelta) -> str:
    minutes, seconds = divmod(length.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number:g}{unit}" for number, unit in parts if number) or "0"


def text(name: str, default: str) -> str:
    """Read a text option."""
    return option(name, default, str, "any text")


def flag(name: str, default: bool) -> bool:
    """Read a boolean option: true, 1, yes, false, 0 or no in any case."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return option(name, default, lambda raw: words.get(raw.lower()), "true or false")


def extra(name: str, module: str, extra: str) -> bool:
    """Read a flag, false by default, that needs this module of an extra of ours. Raises OptionError when it is not installed."""
    is_on = flag(name, False)
    if is_on and not (find_spec(module.partition(".")[0]) and find_spec(module)):
        raise OptionError(f"{name} is true, and what it needs is not installed: pip install 'clusteragent[{extra}]'")
    return is_on


def integer(name: str, default: int, low: int, high: int) -> int:
    """Read a whole number from `low` to `high`."""

    def parse(raw: str) -> int | None:
        return int(raw) if low <= int(raw) <= high else None

    return option(name, default, parse, f"a whole number from {low} to {high}")


def duration(name: str, default: timedelta, low: timedelta = timedelta(0)) -> timedelta:
    """Read a duration: seconds (`30`) or Go's format (`10m`, `1h30m`, `500ms`), of at least `low` and at most ten years."""

    def parse(raw: str) -> timedelta | None:
        if re.fullmatch(r"\d+(\.\d+)?", raw):
            seconds = float(raw)
        elif re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", raw):
            parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", raw)
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        else:
            return None
        return timedelta(seconds=seconds) if low.total_seconds() <= seconds <= _LONGEST.total_seconds() else None

    bounds = f"from {low.total_seconds():g} s to {_LONGEST.days} days"
    return option(name, default, parse, f"seconds or a duration such as 90s, 10m, 1h30m, {bounds}")


def cluster_name(name: str) -> str:
    """Read a cluster's name by the Datadog Agent's rule, which ignores other names; empty when unset."""

    def parse(raw: str) -> str | None:
        word = "[a-z]([a-z0-9-]*[a-z0-9])?"
        return raw if len(raw) <= _LONGEST_CLUSTER_NAME and re.fullmatch(rf"{word}(\.{word})*", raw) else None

    form = (
        f"at most {_LONGEST_CLUSTER_NAME} lower-case letters, digits and hyphens, in words separated by dots;"
        " each word begins with a letter and ends with a letter or digit, such as prod-1.eu"
    )
    return option(name, "", parse, form)


def words(name: str) -> tuple[str, ...]:
    """Read a list: words separated by spaces, or a JSON array of strings."""
    return option(name, (), _split, 'words separated by spaces, or a JSON array such as ["a", "b"]')


def _split(raw: str) -> tuple[str, ...] | None:
    words = json.loads(raw) if raw.startswith("[") else raw.split()
    return tuple(words) if all(isinstance(word, str) for word in words) else None


def path(name: str, of: str) -> Path | None:
    """Read a path, from the folder that the program is called in; None when unset. of: what is there."""
    return option(name, None, lambda raw: Path(raw).absolute(), f"the path of {of}")


def hosts(name: str) -> tuple[str, ...]:
    """Read a list of host names, with `*.` for all below one, and of addresses; in lower case."""

    def parse(raw: str) -> tuple[str, ...] | None:
        read = tuple(word.lower() for word in _split(raw) or ())
        return read if all(map(is_host, read)) else None

    return option(name, (), parse, "host names and addresses, such as ca.example.com *.checks.svc 10.0.0.5")


def is_host(name: str) -> bool:
    """Whether this is a host name in lower case, maybe with `*.` for all below it, or an address."""
    try:
        return bool(_NAME.fullmatch(name.removeprefix("*."))) or bool(ip_address(name))
    except ValueError:
        return False


def label(name: str, default: str) -> str:
    """Return the name of a label of nodes."""

    def parse(raw: str) -> str | None:
        return raw if raw.isprintable() and "=" not in raw and len(raw) <= 253 else None

    return option(name, default, parse, "the name of a label, without =")


def networks(name: str, default: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read a list of address ranges, none of them link-local or multicast."""

    def parse(raw: str) -> tuple[IPv4Network | IPv6Network, ...] | None:
        ranges = tuple(map(ip_network, _split(raw) or ()))
        is_refused = _split(raw) is None or any(one.is_link_local or one.is_multicast for one in ranges)
        return None if is_refused else ranges

    form = "ranges of addresses, such as 10.0.0.0/8 fc00::/7, none of them link-local or multicast"
    return option(name, tuple(map(ip_network, default)), parse, form)


def number(name: str, default: float, high: float = math.inf) -> float:
    """Read a finite number from 0 to `high`."""

    def parse(raw: str) -> float | None:
        value = float(raw)
        return value if 0 <= value <= high and math.isfinite(value) else None

    return option(
        name, default, parse, "a number of at least 0" if math.isinf(high) else f"a number from 0 to {high:g}"
    )


def groups(name: str) -> dict[str, str]:
    """Read {group: [words]} as JSON and return {word: group}; a word of several groups belongs to the first group by name."""

    def parse(raw: str) -> dict[str, str] | None:
        claims = json.loads(raw)
        if not isinstance(claims, dict) or not all(isinstance(words, list) for words in claims.values()):
            return None
        named = {group: words for group, words in claims.items() if group}
        if not all(isinstance(word, str) for words in named.values() for word in words):
            return None
        return {word: group for group in sorted(named, reverse=True) for word in named[group]}

    return option(name, {}, parse, 'a JSON object of lists of names, such as {"kube": ["kubernetes_state_core"]}')


def bind(name: str, default: str) -> tuple[str, int]:
    """Read an address and port to listen on: `127.0.0.1:5005`, `0.0.0.0:5005`, `[::]:5005`. Returns (address, port)."""

    def parse(raw: str) -> tuple[str, int] | None:
        match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+):(\d{1,5})", raw)
        return (match[1].strip("[]"), int(match[2])) if match and int(match[2]) <= 65535 else None

    host, _, port = default.rpartition(":")
    return option(name, (host, int(port)), parse, "host:port, such as 127.0.0.1:5005 or [::]:5005", default)


def choice(name: str, default: str, values: Mapping[str, str]) -> str:
    """Read one of the keys of `values`, in any case, and return its value."""
    return option(name, values[default], lambda raw: values.get(raw.lower()), "one of " + ", ".join(values), default)


def database(name: str) -> str:
    """Read a PostgreSQL URL or key=value string as libpq takes it; empty when unset. Errors don't quote it: it may have a
    password."""
    raw = text(name, "")
    try:
        parts = conninfo_to_dict(raw)
    except psycopg.ProgrammingError:
        parts = {"port": "unknown"}
    ports = str(parts.get("port") or "").split(",")
    if _has_open_password(raw) or not all(port.isdecimal() or not port for port in ports):
        form = "postgresql://user:password@host:port/name, with %40 for @ and %2F for / in a password, or libpq's host=… dbname=…"
        raise OptionError(f"{name} can't be read as a PostgreSQL URL, allowed is {form}") from None
    if raw and not (parts.get("dbname") or parts.get("service")):
        raise OptionError(f"{name} names no database: add /name to the URL, or dbname=name")
    return raw


def _has_open_password(raw: str) -> bool:
    """Return whether libpq would take a part of a URL's password for a host or a name, which its errors quote."""
    if not raw.startswith(("postgresql://", "postgres://")):
        return False
    rest = raw.partition("://")[2]
    where = rest.partition("@")[2] if "@" in rest.partition("/")[0] else rest
    return "@" in where.partition("?")[0]


def url(name: str) -> str:
    """Read an http or https URL; empty when unset. Errors don't quote it: it may be a secret."""
    raw = text(name, "")
    try:
        parts = urlsplit(raw)
        is_complete = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if raw and not (is_complete and raw.isprintable()):
        raise OptionError(f"{name} can't be read as a URL, allowed is http://host:port/path or https://host:port/path")
    return raw


def issuer(name: str) -> str:
    """Read an OpenID provider's URL, which is compared letter by letter; empty when unset. http is for this machine alone."""
    form = "https://host or https://host/path, as the provider names itself (http:// for localhost, 127.0.0.1 and [::1] only)"

    def parse(raw: str) -> str | None:
        parts = urlsplit(raw)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        is_plain = (
            raw.isprintable() and " " not in raw and "@" not in parts.netloc and not (parts.query or parts.fragment)
        )
        return raw if is_safe and is_plain and parts.hostname and parts.port != 0 else None

    return option(name, "", parse, form)


def listed(name: str, example: str) -> dict[str, tuple[str, ...]]:
    """Read {key: [words]} as JSON. example: a key."""

    def parse(raw: str) -> dict[str, tuple[str, ...]] | None:
        read = json.loads(raw)
        if not isinstance(read, dict) or not all(isinstance(words, list) for words in read.values()):
            return None
        is_right = all(isinstance(word, str) and word for key, words in read.items() for word in (key, *words))
        return {key: tuple(words) for key, words in read.items()} if is_right else None

    form = f'a JSON object of lists of names, such as {{"{example}": ["a", "b"]}}'
    return option(name, {}, parse, form)


def headers(name: str) -> dict[str, str]:
    """Read {name: value} of headers in OpenTelemetry's form, `name=value,name=value`. Errors don't quote it: it may be secret."""
    read = {}
    for pair in filter(None, map(str.strip, text(name, "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        # OpenTelemetry's libraries take a value with blanks as it is.
        value = value if " " in value else unquote(value)
        is_pair = equals and _TOKEN.fullmatch(key) and _HEADER_VALUE.fullmatch(pair)
        if not (is_pair and value.isascii() and value.isprintable()):
            form = "name=value,name=value with %20 for a blank, %2C for a comma and so on in a value"
            raise OptionError(f"{name} can't be read as headers, allowed is {form}")
        read[key.lower()] = value
    return read


def origin(name: str) -> str:
    """Read the scheme, host and port of a URL as a browser names them; empty when unset. http is for this machine alone.

    Errors say what is wrong, and don't quote it: it may have a password.
    """
    form = "https://host or https://host:port without a path (http:// for localhost, 127.0.0.1 and [::1] only)"

    def parse(raw: str) -> str:
        if fault := _fault_of_origin(raw.lower()):
            raise OptionError(f"{name} {fault}, allowed is {form}")
        parts = urlsplit(raw.lower())
        # Browsers leave the scheme's own port out.
        own = {"https": ":443", "http": ":80"}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.removesuffix(own).rstrip(':')}"

    return option(name, "", parse, form)


def _fault_of_origin(url: str) -> str:
    """Return what a browser's URL of a site can't have, in lower case; empty if it is one."""
    if not url.isprintable() or " " in url:
        return "has a blank or another character that no URL has"
    scheme, slashes, rest = url.partition("://")
    if not slashes or scheme not in {"http", "https"}:
        return "does not begin with https://"
    authority = re.split("[/?#\\\\]", rest, maxsplit=1)[0]
    match = _AUTHORITY.fullmatch(authority)
    host, port = (match["host"], match["port"]) if match else ("", "")
    faults = {
        "names a user": "@" in authority,
        "has more than a host": rest.removeprefix(authority) not in {"", "/"},
        "has no host": authority.partition(":")[0] == "",
        "has a host that is not ASCII: write it as browsers send it, with xn--": not authority.isascii(),
        "has a port that is no number from 1 to 65535": bool(match) and not _is_port(port or "1"),
        "has a host that is no name and no address": not _is_host(host),
        "begins with http://": scheme == "http" and host.strip("[]") not in LOOPBACK,
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _is_host(text: str) -> bool:
    try:
        return bool(ip_address(text.strip("[]")))
    except ValueError:
        # A last word of digits alone would be read as an address.
        return _NAME.fullmatch(text) is not None and not text.split(".")[-1].isdecimal()


def selection(name: str) -> tuple[str, str] | None:
    """Read a namespace of Kubernetes and a selector of labels there: `datadog/app=runner,tier!=test`. None when it is unset."""

    def parse(raw: str) -> tuple[str, str] | None:
        namespace, _, labels = raw.partition("/")
        return (namespace, labels) if _NAMESPACE.fullmatch(namespace) and _SELECTOR.fullmatch(labels) else None

    form = "NAMESPACE/SELECTOR, such as datadog/app=runner"
    return option(name, None, parse, form)


def secret(name: str, file: Path) -> str:
    """Read a secret of at least 32 characters: from the option, else from the file, else empty (no file was made yet)."""
    given = text(name, "")
    try:
        value = given or file.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"{file}, in the folder of CLUSTERAGENT_VAR, can't be read: {reason}") from error
    _require_secret(value, name if given else str(file))
    return value


def secrets(name: str) -> tuple[str, ...]:
    """Read secrets of at least 32 characters with blanks between. Errors don't quote them."""
    given = tuple(text(name, "").split())
    for number, value in enumerate(given, 1):
        _require_secret(value, f"number {number} of {name}" if len(given) > 1 else name)
    return given


def _require_secret(value: str, where: str) -> None:
    if len(value) < 32:
        raise OptionError(f"{where} has {len(value)} characters, at least 32 are needed")
    if not (value.isascii() and value.isprintable()):
        # No header can have it, and who finds that quotes it.
        raise OptionError(f"{where} has characters other than printable ASCII")
