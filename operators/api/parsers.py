"""Reads the bodies of calls to the operators' API."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.settings import api_settings

_CHUNK = 64 * 1024
# Each value takes some 100 bytes of memory, however short it is in the body. One of _BEFORE_VALUES stands before each value.
MOST_VALUES = 2_000_000
_BEFORE_VALUES = b"{", b"[", b","
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# Escapes of characters that neither the database nor an answer can hold: NUL, and halves of surrogate pairs.
_UNSTORABLE_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NO_FIELD = api_settings.NON_FIELD_ERRORS_KEY
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class TooLarge(APIException):
    """413: the body is too large."""

    status_code = 413


class BoundedJSONParser(BaseParser):
    """JSON in UTF-8, with no more bytes than the view's `most_bytes`. The body is read only after permissions were checked."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        context = parser_context or {}
        return read(stream, int(context["request"].META.get("CONTENT_LENGTH") or 0), context["view"].most_bytes)


def read(stream: IO[Any], length: int, most: int) -> Any:
    """Return a body's JSON value. length: its Content-Length; most: bytes. Raises TooLarge, ParseError, ValidationError."""
    text = _text(stream, length, most)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ParseError("JSON parse error - too deep") from None
    except ValueError as error:
        raise ParseError(f"JSON parse error - {error}") from None
    if _UNSTORABLE_ESCAPE.search(text):
        for field, place, part in _texts(value):
            if _UNSTORABLE.search(part):
                raise ValidationError({field: [f"{place[:200]} holds a NUL character, or half of a surrogate pair."]})
    return value


def _text(stream: IO[Any], length: int, most: int) -> str:
    if length > most:
        # Read on: a client that is still sending when the connection closes never sees the answer.
        while length <= 2 * most and stream.read(_CHUNK):
            pass
        raise TooLarge(f"The body has {length} bytes, at most {most} are read here.")
    data: bytes = stream.read(most + 1)
    if len(data) > most:
        raise TooLarge(f"The body has more than {most} bytes, which are read here at most.")
    if _count(data, 0, len(data)) > MOST_VALUES and _values(data) > MOST_VALUES:
        raise TooLarge(f"The body has more than {MOST_VALUES} values.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8, from byte {error.start} on.") from None


def _values(data: bytes) -> int:
    """An upper limit for the number of values in a body. Signs inside its texts do not count."""
    return _count(data, 0, len(data)) - sum(_count(data, *text.span()) for text in _TEXT.finditer(data))


def _count(data: bytes, start: int, end: int) -> int:
    return sum(data.count(sign, start, end) for sign in _BEFORE_VALUES)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value")


def _texts(value: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (field, place, text) for each text in a value, keys of objects included. field: the top-level key; place: a path
    such as `configs.3.name`.

    It does not recurse, since the value may be deep.
    """
    waiting: list[tuple[str, str, Any]] = [(_NO_FIELD, "The body", value)]
    while waiting:
        field, place, part = waiting.pop()
        below = f"{place}." if field != _NO_FIELD else ""
        if isinstance(part, str):
            yield field, place, part
        elif isinstance(part, list):
            waiting += ((field, f"{below}{index}", item) for index, item in enumerate(part))
        elif isinstance(part, dict):
            yield from ((field, f"A key of {place}", key) for key in part)
            waiting += ((key if field == _NO_FIELD else field, f"{below}{key}", item) for key, item in part.items())
