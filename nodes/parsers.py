"""Parses the bodies that node agents send. Its JSON parser accepts what the peer's accepts, which differs from Python's."""

import ipaddress
import json
import re
from typing import Any, NamedTuple, NoReturn

from nodes.declarations import UNRESTRICTED, canonical

# The most bytes of a stored declaration, and the most characters of each text in it. Real agents send some hundred bytes.
MAX_DECLARED, MAX_TEXT = 64 * 2**10, 253
# The ranges of the protocol's int64 and uint8.
_RANGES = {"last_change": (-(2**63), 2**63 - 1), "node_type": (0, 255)}


class BadStatus(ValueError):
    """A body or header of a call can't be parsed. The message is one line."""


class NodeStatus(NamedTuple):
    """The body of a heartbeat."""

    last_change: int = 0
    node_type: int = 0
    declared: str = UNRESTRICTED


class _Number(str):
    """A number as it was written. So 1.0 and 1e3 are no integers, and a number of a million digits is never computed."""


class _Object(list[tuple[str, Any]]):
    """An object's pairs in order: keys may repeat, or differ only in case."""


def _refuse_constant(name: str) -> NoReturn:
    raise BadStatus(f"invalid JSON: {name} is no value")


_decoder = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)


def read_status(body: bytes) -> NodeStatus:
    """The status in a heartbeat's body: its first JSON value. What follows is ignored, as are unknown keys. Raises BadStatus."""
    fields = _fields(_first_value(body), "a status is a JSON object, not {}")
    numbers = {name: _integer(name, fields[name]) for name in _RANGES if name in fields}
    return NodeStatus(**numbers, declared=_declared(fields))


def read_goodbye(body: bytes) -> str:
    """The kind in a goodbye's body: `leaving` or `restarting`. Raises BadStatus."""
    value = _first_value(body)
    kind = dict(value).get("kind") if isinstance(value, _Object) else None
    if kind not in ("leaving", "restarting"):
        raise BadStatus('a goodbye is {"kind": "leaving"} or {"kind": "restarting"}')
    return str(kind)


def read_rebalance(body: bytes) -> bool:
    """Whether the body forces a rebalance: `{"force": true}`. An empty body does not. Raises BadStatus."""
    value = _first_value(body) if body.strip() else None
    force = _fields(value, "a rebalance is a JSON object, not {}").get("force", False)
    if type(force) is not bool:
        raise BadStatus(f"force is {_shown(force)}, allowed is a boolean")
    return force


def _declared(fields: dict[str, Any]) -> str:
    """The canonical form of what the node declares that it may run."""
    if not fields.keys() & {"check_compatibility", "group"}:
        return UNRESTRICTED
    group = fields.get("group", "")
    if type(group) is not str:
        raise BadStatus(f"group is {_shown(group)}, allowed is a string")
    _refuse_odd("group", group)
    names = _fields(fields.get("check_compatibility"), "check_compatibility is {}, allowed is an object")
    declared = canonical(_names(names, "include"), _names(names, "exclude"), group)
    if len(declared) > MAX_DECLARED:
        raise BadStatus(f"check_compatibility takes {len(declared)} bytes, allowed are {MAX_DECLARED}")
    return declared


def _fields(value: Any, refusal: str) -> dict[str, Any]:
    """{key in lower case: value} of an object, without what is null. Raises BadStatus with the refusal for another value."""
    if value is not None and not isinstance(value, _Object):
        raise BadStatus(refusal.format(_shown(value)))
    return {key.casefold(): field for key, field in value or () if field is not None}


def _names(lists: dict[str, Any], key: str) -> list[str]:
    names = lists.get(key, [])
    if type(names) is not list or not all(type(name) is str for name in names):
        raise BadStatus(f"check_compatibility.{key} is not a list of strings")
    for name in names:
        _refuse_odd(f"a name in check_compatibility.{key}", name)
    return names


def _refuse_odd(what: str, text: str) -> None:
    """Raise BadStatus for a text with half characters or control characters, or a very long one: no page, log or column can
    hold it.
    """
    if len(text) > MAX_TEXT or not text.isprintable():
        raise BadStatus(f"{what} is not a text of at most {MAX_TEXT} printable characters")


def read_client_ip(header: str) -> str | None:
    """The address in the X-Real-Ip header; None if that is empty. Raises BadStatus."""
    if not header:
        return None
    try:
        address = ipaddress.ip_address(header)
    except ValueError:
        address = None
    if address is None or "%" in header:
        raise BadStatus(f"cannot parse CLC runner address: {header[:100]}")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _first_value(body: bytes) -> Any:
    # Bytes that are not UTF-8 may follow the value, but not be part of it.
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise BadStatus("EOF")
    try:
        value, end = _decoder.raw_decode(text)
        text[:end].encode()
    except json.JSONDecodeError as error:
        raise BadStatus(f"invalid JSON: {error.msg} at character {error.pos + 1}") from None
    except UnicodeEncodeError:
        raise BadStatus("invalid JSON: not UTF-8") from None
    except RecursionError:
        raise BadStatus("invalid JSON: nested too deeply") from None
    return value


def _integer(name: str, value: Any) -> int:
    low, high = _RANGES[name]
    if not isinstance(value, _Number) or not re.fullmatch(r"-?[0-9]{1,20}", value) or not low <= int(value) <= high:
        raise BadStatus(f"{name} is {_shown(value)}, allowed is an integer from {low} to {high}")
    return int(value)


def _shown(value: Any) -> str:
    if isinstance(value, _Number):
        return value[:40]
    if isinstance(value, _Object):
        return "an object"
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}[type(value)]
