"""Tells random texts (keys, tokens) from names that people gave, by the length of the words in them.

A run of letters, digits and separators is split into pieces at its separators, and each piece into words as people read
them: `BytesInPerSec` is four words in 13 letters, `k3Jd92Ms0fjQ` eight in 12. Names have longer words than random texts.
Hidden are consecutive pieces with 20 or more letters and digits altogether and words of less than three and a half letters
on average. Host names, UUIDs, and digests with their algorithm (`sha256:…`) stay visible.
"""

import re

# The characters of keys and tokens. A match is a whole run, so each is examined once.
_RUN = re.compile(r"(?<![\w+/.~-])[A-Za-z0-9+/_.~-]{20,}+={0,2}", re.ASCII)
_PIECE = re.compile(r"[A-Za-z0-9]++")
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++|[0-9]++")
_UUID = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-zA-Z])", re.IGNORECASE)
_DIGEST = re.compile(r"(?:sha(?:1|224|256|384|512)|md5)[:-]\Z", re.IGNORECASE)
# Labels in lower case, the last one of letters only, and no path.
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z]{2,24}\.?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}:\Z", re.IGNORECASE)

_DIGIT = re.compile(r"[0-9]")

LENGTH = 20
# The least average length of words in names: with at most one number (`TotalCountV2`), with more of them, and with more of
# them and all letters in one case, where capitals don't separate words.
_WITH_A_NUMBER, _WITH_NUMBERS, _IN_ONE_CASE = 3.0, 3.5, 4.2
# A piece of at most this length does not end a group of random pieces.
_SHORT = 4


def hide(text: str, mask: str) -> str:
    """Return the text with `mask` in place of its random parts. Takes time in proportion to its length."""
    return _RUN.sub(lambda run: _hidden(run, mask), text)


def may_hold(text: str) -> bool:
    """Return False only if `hide` would change nothing."""
    return any(_hidden(run, "") != run[0] for run in _RUN.finditer(text))


def _hidden(run: re.Match[str], mask: str) -> str:
    text = run[0]
    # Most runs are names, and most names have no digit.
    if not _DIGIT.search(text) or _DIGEST.search(run.string, max(0, run.start() - 8), run.start()):
        return text
    parts = _drawn(_without_names(run))
    # Base64 contains slashes too: if most of the run is random, all of it is.
    if parts and 2 * sum(end - start for start, end in parts) > len(text):
        return mask + text[len(text.rstrip("./~_-")) :]
    shown, last = [], 0
    for start, end in parts:
        shown += [text[last:start], mask]
        last = end
    return "".join([*shown, text[last:]])


def _without_names(run: re.Match[str]) -> str:
    """Return the run with one long word in place of each UUID, and of the host before its first slash or after `scheme://`."""
    text = _UUID.sub("x" * 36, run[0])
    start = 2 if text.startswith("//") and _SCHEME.search(run.string, max(0, run.start() - 32), run.start()) else 0
    host = text[start:].partition("/")[0]
    return text[:start] + "x" * len(host) + text[start + len(host) :] if _HOST.fullmatch(host) else text


def _drawn(text: str) -> list[tuple[int, int]]:
    """Return the random parts of a run as (start, end)."""
    found: list[tuple[int, int]] = []
    group: list[tuple[int, int]] = []
    for start, end in (one.span() for one in _PIECE.finditer(text)):
        if end - start <= _SHORT or _is_drawn(text, start, end):
            group.append((start, end))
        else:
            found += _of_group(text, group)
            group = []
    return found + _of_group(text, group)


def _is_drawn(text: str, start: int, end: int) -> bool:
    words = [word[0] for word in _WORD.finditer(text, start, end)]
    numbers = sum(word.isdigit() for word in words)
    letters = text[start:end]
    in_one_case = letters == letters.lower() or letters == letters.upper()
    longest = _WITH_A_NUMBER if numbers < 2 else _IN_ONE_CASE if in_one_case else _WITH_NUMBERS
    return len(words) * longest > end - start


def _of_group(text: str, group: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the group as one (start, end), without the short pieces at its ends; empty if it is too short or has no digit."""
    long = [piece for piece in group if piece[1] - piece[0] > _SHORT]
    if not long:
        return []
    start, end = long[0][0], long[-1][1]
    letters = sum(min(last, end) - first for first, last in group if start <= first < end)
    return [(start, end)] if letters >= LENGTH and _DIGIT.search(text, start, end) else []
