"""Scalars as yaml.v2, the node agents' YAML library, reads and writes them. Pure.

It reads some plain scalars differently from PyYAML: `1e3` is a number, `y` a boolean, `12:30` and `2020-01-01` are texts.
"""

import base64
import math
import re
from datetime import date
from decimal import Decimal
from functools import lru_cache

BINARY = "tag:yaml.org,2002:binary"
BOOL = "tag:yaml.org,2002:bool"
FLOAT = "tag:yaml.org,2002:float"
INT = "tag:yaml.org,2002:int"
MERGE = "tag:yaml.org,2002:merge"
NULL = "tag:yaml.org,2002:null"
STR = "tag:yaml.org,2002:str"
TIMESTAMP = "tag:yaml.org,2002:timestamp"

_WORDS = (
    dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (BOOL, "true"))
    | dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), (BOOL, "false"))
    | dict.fromkeys(("", "~", "null", "Null", "NULL"), (NULL, "null"))
    | dict.fromkeys((".nan", ".NaN", ".NAN"), (FLOAT, ".nan"))
    | dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), (FLOAT, ".inf"))
    | dict.fromkeys(("-.inf", "-.Inf", "-.INF"), (FLOAT, "-.inf"))
    | {"<<": (MERGE, "<<")}
)
# A plain scalar that begins with another character is a text.
_FIRST = frozenset("+-.0123456789") | {word[:1] for word in _WORDS}
_KNOWN = {BOOL, FLOAT, INT, NULL, TIMESTAMP}

_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.ASCII).fullmatch
# After "0b" the digits may have their own sign.
_BINARY_INTEGER = re.compile(r"0b[-+]?[01]+|-0b[01]+", re.ASCII).fullmatch
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII).fullmatch
_FRACTION = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?", re.ASCII).fullmatch
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", re.ASCII).fullmatch
_TIME = r"(\d\d?):(\d\d?):(\d\d?)(?:[.,]\d+)?"
_TIMESTAMP = re.compile(
    rf"(\d{{4}})-(\d\d?)-(\d\d?)(?:[Tt]{_TIME}(?:Z|[-+](\d\d):(\d\d))| +{_TIME})?", re.ASCII
).fullmatch


def tag_of(text: str) -> str:
    """Return the implicit tag of a plain scalar."""
    return STR if text[:1] not in _FIRST else _short(text)[0] if len(text) < 100 else _resolved(text)[0]


def value_of(tag: str, text: str) -> tuple[str, str]:
    """Return the tag and the text with which a scalar of this tag is written. Raises ValueError when they do not match.

    It is the text after reading and writing twice, as agents do with files. Only `-0.0` differs after the first time.
    """
    if tag == STR:
        return tag, text
    if tag == BINARY:
        return _decoded(text)
    if tag not in _KNOWN:
        return STR, text
    found, written = _short(text) if len(text) < 100 else _resolved(text)
    if found == TIMESTAMP == tag:
        return STR, text
    if tag == FLOAT and found == INT and abs(int(written)) < 2**63:
        return tag, _as_float(float(int(written)))
    if found != tag:
        raise ValueError(f"the tag !!{tag.rpartition(':')[2]} does not fit what follows it")
    return found, written


def style_of(text: str) -> str | None:
    """Return the style in which a text is written: `|` for several lines, quotes when it would be read as no text, or None."""
    if "\n" in text:
        return "|"
    return None if text[:1] not in _FIRST or (tag_of(text) in (STR, MERGE) and not _BASE_60(text)) else '"'


@lru_cache(maxsize=1 << 14)
def _short(text: str) -> tuple[str, str]:
    return _resolved(text)


def _resolved(text: str) -> tuple[str, str]:
    """Tag and written text of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] == ".":
        number = float(text) if _FRACTION(text) else math.inf
        return (FLOAT, _as_float(number)) if math.isfinite(number) else (STR, text)
    if text[:1] not in "+-0123456789":
        return STR, text
    if _is_timestamp(text):
        return TIMESTAMP, text
    return _number(text.replace("_", "")) or (STR, text)


def _number(digits: str) -> tuple[str, str] | None:
    """A number without its underscores."""
    # More digits, except leading zeros, exceed 64 bits, and Python refuses to convert them.
    if len(digits) < 4000 and _INTEGER(digits):
        # In Go's syntax a leading zero means octal.
        bare = digits.lstrip("+-")
        value = int(bare, 8 if re.fullmatch("0[0-7]+", bare) else 0) * (-1 if digits[0] == "-" else 1)
        if -(2**63) <= value < 2**63 or (digits[0] not in "+-" and value < 2**64):
            return INT, str(value)
    if _DECIMAL(digits):
        number = float(digits)
        return (FLOAT, _as_float(number)) if math.isfinite(number) else None
    if _BINARY_INTEGER(digits):
        value = int(digits.replace("0b", "", 1), 2)
        return (INT, str(value)) if -(2**63) <= value < 2**63 else None
    return None


def _as_float(number: float) -> str:
    """The shortest decimal form of a float; with an exponent from 10^6 on and below 10^-4."""
    if number == 0:
        return "0"
    sign, digits, power = Decimal(repr(number)).normalize().as_tuple()
    text, exponent = "".join(map(str, digits)), len(digits) - 1 + int(power)
    if -4 <= exponent < 6:
        return f"{number:.{max(-int(power), 0)}f}"
    return f"{'-' * sign}{text[0]}{'.' * (len(text) > 1)}{text[1:]}e{exponent:+03d}"


def _is_timestamp(text: str) -> bool:
    found = _TIMESTAMP(text)
    if not found:
        return False
    year, month, day, *times = (int(number) if number else 0 for number in found.groups())
    hours, minutes, seconds, zone_hours, zone_minutes, *spaced = times
    try:
        # Go has a year 0, which is a leap year like 2000.
        date(year or 2000, month, day)
    except ValueError:
        return False
    in_zone = zone_hours <= 24 and zone_minutes <= 60
    return in_zone and all(h < 24 and m < 60 and s < 60 for h, m, s in ((hours, minutes, seconds), spaced))


def _decoded(text: str) -> tuple[str, str]:
    """The text that base64 decodes to. Bytes that are no UTF-8 stay base64."""
    try:
        data = base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError:
        raise ValueError("the tag !!binary does not fit what follows it: it is not base64") from None
    try:
        return STR, data.decode()
    except UnicodeDecodeError:
        written = base64.b64encode(data).decode()
        lines = [f"{written[start : start + 70]}\n" for start in range(0, len(written), 70)]
        return BINARY, written if len(written) < 70 else "".join(lines)
