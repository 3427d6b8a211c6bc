"""Tells texts that a machine drew by chance (keys, tokens) from names that people gave. Pure arithmetic on letters.

A run of letters, digits and separators is cut into pieces at its separators, and each piece into words as one reads them:
`BytesInPerSec` is four words in 13 letters, `k3Jd92Ms0fjQ` eight in 12. A name has words of some length, what was drawn has
none. So what is hidden are pieces that follow each other, have 20 letters and digits or more together, and words of less
than three and a half letters on average. Names of hosts, UUIDs, and digests that say so (`sha256:…`) stay visible.
"""

import re

# What keys and tokens consist of. Not followed or preceded by more of it, so each is looked at once.
_RUN = re.compile(r"(?<![\w+/.~-])[A-Za-z0-9+/_.~-]{20,}+={0,2}", re.ASCII)
_PIECE = re.compile(r"[A-Za-z0-9]++")
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++|[0-9]++")
_UUID = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-zA-Z])", re.IGNORECASE)
_DIGEST = re.compile(r"(?:sha(?:1|224|256|384|512)|md5)[:-]\Z", re.IGNORECASE)
# Each label in small letters, the last one a word; nothing of it is a path.
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)+[a-z]{2,24}\.?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}:\Z", re.IGNORECASE)

_DIGIT = re.compile(r"[0-9]")

LENGTH = 20
# Letters that a word has on average, at least, in what people name: with one number, as `TotalCountV2` has, with more of
# them, and where no capital says that a word begins.
_WITH_A_NUMBER, _WITH_NUMBERS, _IN_ONE_CASE = 3.0, 3.5, 4.2
# A piece of so few letters says nothing of its neighbours.
_SHORT = 4


def hide(text: str, mask: str) -> str:
    """The text with a mask in place of what was drawn by chance. Takes time like its length."""
    return _RUN.sub(lambda run: _hidden(run, mask), text)


def may_hold(text: str) -> bool:
    """False only where `hide` changes nothing."""
    return any(_hidden(run, "") != run[0] for run in _RUN.finditer(text))


def _hidden(run: re.Match[str], mask: str) -> str:
    text = run[0]
    # Most names have none, and most of what is looked at are names.
    if not _DIGIT.search(text) or _DIGEST.search(run.string, max(0, run.start() - 8), run.start()):
        return text
    parts = _drawn(_without_names(run))
    # Base64 has slashes too: where most of it was drawn, all of it was.
    if parts and 2 * sum(end - start for start, end in parts) > len(text):
        return mask + text[len(text.rstrip("./~_-")) :]
    shown, last = [], 0
    for start, end in parts:
        shown += [text[last:start], mask]
        last = end
    return "".join([*shown, text[last:]])


def _without_names(run: re.Match[str]) -> str:
    """The run with one long word in place of each UUID, and of the host before its first slash or after `scheme://`."""
    text = _UUID.sub("x" * 36, run[0])
    start = 2 if text.startswith("//") and _SCHEME.search(run.string, max(0, run.start() - 32), run.start()) else 0
    host = text[start:].partition("/")[0]
    return text[:start] + "x" * len(host) + text[start + len(host) :] if _HOST.fullmatch(host) else text


def _drawn(text: str) -> list[tuple[int, int]]:
    """The parts of a run that were drawn by chance."""
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
    """The group without the short pieces around it, if it is long enough."""
    long = [piece for piece in group if piece[1] - piece[0] > _SHORT]
    if not long:
        return []
    start, end = long[0][0], long[-1][1]
    letters = sum(min(last, end) - first for first, last in group if start <= first < end)
    return [(start, end)] if letters >= LENGTH and _DIGIT.search(text, start, end) else []
