"""Displays an author's text: the same lines, without secrets.

Secrets are found in the YAML tree and hidden at their places in the text. Comments are not in the tree: a comment that may
name a secret is hidden as a whole. So is text that can't be read.
"""

import re
from collections.abc import Iterator

from yaml import Node, ScalarNode

from checks.wire import scrub, yamlnodes
from checks.wire.scrub import MASK

# A comment, outside of scalars.
_COMMENT = re.compile(r"(?:(?<=\s)|^)#[^\n]*", re.MULTILINE)
_ANCHORS_AND_TAGS = re.compile(r"(?:[&!]\S*(?:\s+|\Z))*")
# An author's own tag, which may be a secret without its quotes.
_TAG = re.compile(r"(?<![^\s\[{,])!(?!!)[^\s,\]}]+")
_WORD = re.compile(r"[\w.-]+")
_INDENT = re.compile(r"[#\s]*")
_BLOCK = ("-----BEGIN", "-----END")
_PROPERTY = re.compile(r"[&!](?!!)\S+")
# The end of a document, which begins no other one. And the most documents that are read.
_END = re.compile(r"\.\.\.[ \t]*(?:\n|\Z)")
_MOST_DOCUMENTS = 20
# Shorter values occur in comments by chance.
_SHORTEST_VALUE = 4
# Every comment is searched for every secret. With more secrets than this no comment is shown.
_MOST_VALUES = 200


def shown(text: str) -> str:
    """Return the text without secrets, with the same lines. Takes time linear in its length."""
    text = text.removeprefix("\ufeff")
    parts: list[str] = []
    hidden: set[str] = set()
    for _ in range(_MOST_DOCUMENTS):
        first, text = yamlnodes.documents(text)
        parts.append(_document(first, hidden))
        if end := _END.match(text):
            parts.append(end[0])
            text = text[end.end() :]
    found = "".join([*parts, _masked(text)])
    whole = scrub.scrub(found)
    return whole if whole.count("\n") == found.count("\n") else "\n".join(map(scrub.scrub, found.split("\n")))


def _document(text: str, hidden: set[str]) -> str:
    """One document without secrets in values and comments. hidden: the secrets found so far; new ones are added."""
    try:
        root = yamlnodes.compose(text)
        scalars = sorted(_changed(root), key=lambda one: _place(one[0])) if root is not None else []
    except (yamlnodes.InvalidYAML, TypeError):
        # A later document, which nothing reads, may be no YAML.
        return _masked(text)
    hidden.update(was for node, was, now in scalars if now != was and len(was) >= _SHORTEST_VALUE)
    parts: list[str] = []
    at = 0
    for node, was, now in scalars:
        start, end = _place(node)
        if start >= at:
            parts += _without_secret_comments(text[at:start], hidden), _scalar(text[start:end], was, now)
            at = end
    return "".join([*parts, _without_secret_comments(text[at:], hidden)])


def _changed(root: Node) -> Iterator[tuple[ScalarNode, str, str]]:
    """Yield (scalar, its text, its displayed text) for each scalar, hidden at its place or after merge keys are resolved."""
    scalars = [node for node in yamlnodes.nodes(root) if isinstance(node, ScalarNode)]
    was = [node.value for node in scalars]
    scrub.hide(root)
    first = [node.value for node in scalars]
    yamlnodes.normalise(root)
    settled = [node.value for node in scalars]
    scrub.hide(root)
    seen: dict[tuple[int, int], tuple[ScalarNode, str, str]] = {}
    for node, before, once, same in zip(scalars, was, first, settled, strict=True):
        now = MASK if node.value != same and once == before else once
        place = _place(node)
        if place not in seen or now != before:
            # An alias has the place of its anchor.
            other = seen.get(place)
            seen[place] = (node, before, now if other is None or other[2] in (before, now) else MASK)
    yield from seen.values()


def _place(node: ScalarNode) -> tuple[int, int]:
    """The first and the last index of a scalar in its text."""
    return node.start_mark.index, node.end_mark.index


def _scalar(written: str, was: str, now: str) -> str:
    """The part of the text of a scalar, in which `now` is displayed in place of `was`."""
    if was and now == was:
        return written
    match = _ANCHORS_AND_TAGS.match(written)
    start = match.end() if match else 0
    # A tag or anchor before an empty scalar may be a value without its quotes.
    before, after = (_TAG if was else _PROPERTY).sub(MASK, written[:start]), written[start:]
    if now == was:
        return before + after
    # With escapes, or in several lines, the written text differs from the value.
    plain = was and "\n" not in after and after.count(was) == 1
    return before + (after.replace(was, now) if plain else _masked(after))


def _masked(text: str) -> str:
    return re.sub(r"\S[^\n]*", MASK, text)


def _without_secret_comments(between: str, hidden: set[str]) -> str:
    """The text between scalars. A comment that may name a secret is hidden, with the lines that continue it."""
    if "#" not in between:
        return _TAG.sub(MASK, between)
    lines, block = [], _HiddenComment()
    for line in between.split("\n"):
        comment = _COMMENT.search(line)
        said = comment[0] if comment else ""
        if said and (block.goes_on(said) or _names_secret(said, hidden)):
            block.begin(said)
            said = f"# {MASK}"
        elif not said:
            block = _HiddenComment()
        lines.append(_TAG.sub(MASK, line[: comment.start()] if comment else line) + said)
    return "\n".join(lines)


class _HiddenComment:
    """Decides which lines continue a hidden comment: those indented further, and those after a colon."""

    def __init__(self) -> None:
        self.indent: int | None = None
        self.is_open = self.in_block = False

    def begin(self, comment: str) -> None:
        if self.indent is None or _indent(comment) <= self.indent:
            self.indent = _indent(comment)
        self.is_open = comment.rstrip().endswith((":", "|", ">", "=", "|-", ">-"))
        self.in_block = (self.in_block or _BLOCK[0] in comment) and _BLOCK[1] not in comment

    def goes_on(self, comment: str) -> bool:
        if self.indent is not None and not comment.strip("# \t\r"):
            # An empty comment is not hidden, and does not end the hidden one.
            return False
        deeper = self.indent is not None and _indent(comment) > self.indent
        if self.indent is not None and not (deeper or self.is_open or self.in_block):
            self.indent = None
        return deeper or self.is_open or self.in_block or _BLOCK[0] in comment


def _indent(comment: str) -> int:
    match = _INDENT.match(comment)
    return match.end() if match else 0


def _names_secret(comment: str, hidden: set[str]) -> bool:
    if len(hidden) > _MOST_VALUES or scrub.scrub(comment) != comment:
        return True
    if any(scrub.is_secret(word) for word in _WORD.findall(comment)):
        return True
    return any(secret in comment for secret in hidden)
