"""Similarity of words: finding the word that a misspelt one means."""

from collections.abc import Collection
from difflib import get_close_matches


def is_one_edit(one: str, other: str) -> bool:
    """Return whether one edit makes one word of the other: a letter added, removed or replaced, or two neighbours swapped."""
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    left, right = one[start : len(one) - end], other[start : len(other) - end]
    lengths = len(left) + len(right), max(len(left), len(right))
    return lengths in ((1, 1), (2, 1)) or (lengths == (4, 2) and left == right[::-1])


def differ_in_number(one: str, other: str) -> bool:
    """Return whether the words differ only in a number at their end: `query1` is no misspelling of `query2`."""
    return one != other and one.rstrip("0123456789") == other.rstrip("0123456789")


def is_misspelt(name: str, other: str) -> bool:
    """Return whether a name may be another one, spelt otherwise. A name with another number is another thing's."""
    one, two = name.casefold(), other.casefold()
    return one == two or (is_one_edit(one, two) and not differ_in_number(one, two))


def near_misses(word: str) -> set[str]:
    """Return the word and all that remain of it without one letter. Words that are one edit apart have one of these in common."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


def nearest(word: str, known: Collection[str], alike: float = 0.8) -> str:
    """Return the most similar known word; empty when none is at least so much `alike` (1: the same). Case does not count, and
    `-` counts as `_`."""
    plain = {_plain(one): one for one in known}
    return next((plain[match] for match in get_close_matches(_plain(word), plain, n=1, cutoff=alike)), "")


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    differing = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))
