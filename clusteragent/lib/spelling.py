"""Which word is meant by one that is nearly another."""

from collections.abc import Collection
from difflib import get_close_matches

_ALIKE = 0.8


def is_one_edit(one: str, other: str) -> bool:
    """Whether a letter more, less or other, or two that changed places, make one word of the other. Not for equal words."""
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    left, right = one[start : len(one) - end], other[start : len(other) - end]
    lengths = len(left) + len(right), max(len(left), len(right))
    return lengths in ((1, 1), (2, 1)) or (lengths == (4, 2) and left == right[::-1])


def differ_in_number(one: str, other: str) -> bool:
    """Whether the words differ in a number at their end alone: `query1` is not meant to be `query2`."""
    return one != other and one.rstrip("0123456789") == other.rstrip("0123456789")


def near_misses(word: str) -> set[str]:
    """What a word shares with each word that is one edit away: itself and all that a letter less makes of it."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that is most like this one; empty when none is like it. Capitals and `-` count as small letters and `_`."""
    plain = {_plain(one): one for one in known}
    return next((plain[match] for match in get_close_matches(_plain(word), plain, n=1, cutoff=_ALIKE)), "")


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _common(one: str, other: str) -> int:
    """How many letters at the beginning are the same."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
