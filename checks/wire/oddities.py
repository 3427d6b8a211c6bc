"""Finds YAML that is read differently than its author can have meant it. Pure.

Messages never contain text of the author, except keys that are plain words.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import scalars, yamlnodes
from checks.wire.scalars import BINARY, BOOL, FLOAT, INT, MERGE, NULL, STR, TIMESTAMP

_KNOWN_TAGS = {BINARY, BOOL, FLOAT, INT, MERGE, NULL, STR, TIMESTAMP, yamlnodes.MAP, yamlnodes.SEQ}
_WHOLE = re.compile(r"[-+]?[0-9_]+", re.ASCII).fullmatch
_WORD = re.compile(r"[A-Za-z_][\w.-]{,60}", re.ASCII).fullmatch
_COMMENT = re.compile(r"\s*#(?:\s|$)").match
_READ_AS = {
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    date: "a date",
    datetime: "a date and time",
}
_PYYAML: Any = yaml.resolver.Resolver()


# A line of a text, counted from 1; a part of a config that came as data, such as `instances[3].limit`; or None.
Place = int | str | None


class Oddity(NamedTuple):
    """A warning for the author, and the place that it is about."""

    line: Place
    message: str


def oddities(root: Node, text: str) -> list[Oddity]:
    """Return the oddities of a text, sorted by line. root: its composed tree."""
    found = {*_of(root, text.splitlines()), *second_document(text)}
    return sorted(found, key=by_line)


def by_line(oddity: Oddity) -> tuple[int, str]:
    """Return the sort key of an oddity; one without a line comes first."""
    return oddity.line if isinstance(oddity.line, int) else 0, oddity.message


def second_document(text: str) -> Iterator[Oddity]:
    """Yield a warning about what follows the first document, unless that is blank lines and comments."""
    first, rest = yamlnodes.documents(text)
    for number, line in enumerate(rest.split("\n"), first.count("\n") + 1):
        if yamlnodes.says_something(line):
            yield Oddity(number, "a second document begins here: only the first one is read")
            return


def _of(node: Node, lines: Sequence[str], *, is_key: bool = False) -> Iterator[Oddity]:
    line = node.start_mark.line + 1
    if node.tag not in _KNOWN_TAGS:
        yield Oddity(line, "this YAML tag is unknown and ignored: a text that begins with ! needs quotes")
    if isinstance(node, ScalarNode):
        yield from (Oddity(line, message) for message in _of_scalar(node, is_key))
        if node.style in ("|", ">"):
            # Only one warning, since a script may have many such lines.
            numbers = range(node.start_mark.line + 1, node.end_mark.line)
            if first := next((number for number in numbers if _COMMENT(lines[number])), None):
                yield Oddity(first + 1, "in a block text a line that begins with # is part of the text, not a comment")
    elif isinstance(node, MappingNode):
        yield from _of_map(node, lines)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _of(item, lines)


def _of_scalar(node: ScalarNode, is_key: bool) -> Iterator[str]:
    tag, written = yamlnodes.resolved(node)
    if tag == FLOAT and _WHOLE(node.value) and abs(float(written)) >= 2**63:
        yield "this whole number has more than 64 bits and becomes inexact: put it in quotes"
    elif tag == BINARY:
        yield "these bytes are not text: Python checks get bytes"
    elif read := _read_by_python(tag, written, is_key):
        yield f"node agents read {'a text' if tag == STR else 'a number'} here, Python checks {read}"


def _read_by_python(tag: str, written: str, is_key: bool) -> str:
    """What Python checks read of the scalar that is sent, in words; empty when it is the same."""
    if tag in (STR, MERGE) and scalars.style_of(written) is not None:
        return ""
    if is_key and written == "<<":
        # In quotes it is a merge key, too, and is not in the text that is sent.
        return ""
    theirs = _PYYAML.resolve(ScalarNode, written, (True, False))
    if theirs == (STR if tag == MERGE else tag) or {tag, theirs} == {INT, FLOAT}:
        return ""
    try:
        # Some scalars are texts as keys but not as values.
        loaded = yaml.load(f"? {written}\n: 0" if is_key else f"- {written}", yaml.CSafeLoader)
        value = next(iter(loaded))
    except (yaml.YAMLError, ValueError):
        return "can't load the config"
    if tag == STR and value == written:
        return ""
    return f"read {_READ_AS.get(type(value), 'something else')}"


def _of_map(node: MappingNode, lines: Sequence[str]) -> Iterator[Oddity]:
    own: set[tuple[str, str]] = set()
    for key, value in node.value:
        yield from _of(value, lines)
        line = key.start_mark.line + 1
        if key.tag == MERGE:
            sources = yamlnodes.merge_sources(value)
            merged = {
                yamlnodes.resolved(each) for map_ in sources for each, _ in map_.value if isinstance(each, ScalarNode)
            }
            if own & merged:
                yield Oddity(line, "a merge key overrides the keys before it in the same map: move it to the beginning")
            continue
        yield from _of(key, lines, is_key=True)
        if not isinstance(key, ScalarNode):
            continue
        tag, written = yamlnodes.resolved(key)
        identity = (INT if tag == FLOAT else tag, written)
        if identity in own:
            named = f"the key {key.value}" if _WORD(key.value) else "a key"
            yield Oddity(line, f"{named} occurs twice in one map: only the last one counts")
        own.add(identity)
