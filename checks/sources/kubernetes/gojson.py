"""JSON of annotations as the Datadog Agent's library (Go's encoding/json) reads and writes it. Pure."""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

# Characters that a text in quotes may hold in JSON, but not in YAML, which reads these texts next. Go escapes a part of them.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# What YAML refuses to read next, and far below what Python can recurse.
MAX_DEPTH = 50
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\n\r]*")


class InvalidJSON(ValueError):
    """The text is no JSON that Go reads. The message holds nothing of the text."""


def read(text: str) -> Any:
    """Return the value of a text: maps, lists, texts, floats, booleans and None. Raises InvalidJSON.

    Every number is a 64-bit float, and the last of equal keys counts.
    """
    if not text.strip(" \t\r\n"):
        raise InvalidJSON("is empty")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"is not JSON: {_said(error)} at {_place(error)}") from None
    except RecursionError:
        raise InvalidJSON("nests too deep") from None


def members(text: str) -> Iterator[tuple[str, str]]:
    """Yield (key, raw text of the value) of each member of a text that `read` reads as a map, in its order."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        yield utf8(key), text[start:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def write(value: Any, depth: int = 0) -> str:
    """Return the JSON of a value that `read` returned, as YAML can read it. Keys keep their order. Raises InvalidJSON.

    depth: of the collections around it.
    """
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _NOT_IN_YAML.sub(_escaped, json.dumps(utf8(value), ensure_ascii=False))
    if depth > MAX_DEPTH:
        raise InvalidJSON("nests too deep")
    if isinstance(value, dict):
        return f"{{{','.join(f'{write(key)}:{write(each, depth + 1)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(write(each, depth + 1) for each in value)}]"
    return json.dumps(value)


def utf8(text: str) -> str:
    """Return the text as UTF-8 can hold it: halves of surrogate pairs become U+FFFD, as in Go."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _said(error: json.JSONDecodeError) -> str:
    if error.doc.startswith("%%", error.pos):
        return "a variable without quotes"
    return error.msg.lower().removesuffix(" at").rstrip(": ")


def _place(error: json.JSONDecodeError) -> str:
    column = f"character {error.colno}"
    return column if "\n" not in error.doc.strip() else f"line {error.lineno}, {column}"


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidJSON("holds a number that is too large")
    return number


def _refuse(word: str) -> NoReturn:
    raise InvalidJSON(f"is not JSON: it holds {word}, which is no number there")


def _number(number: float) -> str:
    """The shortest decimal form; with an exponent from 10^21 on and below 10^-6."""
    if number and not 1e-6 <= abs(number) < 1e21:
        return repr(number).replace("e-0", "e-")
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_float, parse_constant=_refuse)
