# ruff: noqa: RUF001 - letters that look like others are what this is about
"""Names of nodes: which ones are valid, and which look alike."""

import hashlib
import re
import unicodedata

from django.core.exceptions import ValidationError

# Characters that Unicode calls printable, but that are invisible.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def validate_node_name(name: str) -> None:
    """Raise ValidationError unless the name is one path segment of 1 to 253 visible characters, without blanks at its ends."""
    if not 1 <= len(name) <= 253:
        raise ValidationError("a node's name has 1 to 253 characters")
    if "/" in name or name in {".", ".."} or not name.isprintable() or name.isspace() or _INVISIBLE.search(name):
        raise ValidationError("a node's name is one path segment of printable characters")
    if name != name.strip():
        raise ValidationError("a node's name has no blanks at its ends")
    # Django passes bytes of a path that are not UTF-8 as escapes.
    if re.search(r"%[89A-Fa-f][0-9A-Fa-f]", name):
        raise ValidationError("a node's name is UTF-8")


# Cyrillic, Greek and other letters, digits and dashes that look like those of ASCII, after case is folded. Not the whole table
# of Unicode (UTS 39): the libraries that contain it are large or unmaintained, and look-alikes are only reported.
_LIKE = {
    "a": "аαɑ", "b": "ьв", "c": "сϲⅽ", "d": "ԁⅾ", "e": "еεєҽ", "g": "ɡԍ", "h": "һнη", "i": "іıι", "j": "јϳ", "k": "кκ",
    "l": "1|ӏⅼǀ", "m": "мⅿμ", "n": "пո", "o": "0оοօσ", "p": "рρ", "q": "ԛզ", "r": "гг", "s": "ѕꜱ", "t": "тτ", "u": "υսц",
    "v": "νѵⅴ", "w": "ԝωш", "x": "хχⅹ×", "y": "уγү", "z": "ᴢζ", "3": "зӡ", "6": "б", "-": "‐‑‒–—−_", ".": "․。·",
}  # fmt: skip
_ASCII = str.maketrans({alike: plain for plain, letters in _LIKE.items() for alike in letters})


def skeleton(name: str) -> str:
    """The name without case, width and accents, in ASCII's letters. Names that look alike have the same skeleton."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return "".join(one for one in folded if not unicodedata.combining(one)).replace(" ", "").translate(_ASCII)


def likeness(name: str) -> int:
    """A hash of the skeleton, of 63 bits, by which look-alikes are found."""
    return int.from_bytes(hashlib.blake2b(skeleton(name).encode(), digest_size=8).digest()) >> 1
