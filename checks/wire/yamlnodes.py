"""YAML as composed nodes: texts are read, changed and written without converting scalars to Python values.

`12:30:45`, `010`, `1e3` or `yes` mean different things to different parsers, so each scalar keeps its spelling. Tags are those
of the node agents' library.
"""

import bisect
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import scalars, yamlerrors
from checks.wire.scalars import MERGE

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 50

BOOL, NULL, STR = scalars.BOOL, scalars.NULL, scalars.STR
MAP = "tag:yaml.org,2002:map"
SEQ = "tag:yaml.org,2002:seq"

# libyaml composes by recursion in C and crashes the process when a text nests some thousand levels deep. 400 levels fit into
# a thread's stack of 256 KiB. Every collection, and every item of one, needs at least one of these characters, so a text with
# few of them needs no survey.
_INDICATORS = "[{-?:,"
_HARMLESS_INDICATORS = 400

# Texts that every YAML parser reads as texts without quotes, except the words in the second set.
_SURELY_TEXT = re.compile(r"[A-Za-z][!-~]*(?: [!-~]+)*").fullmatch
_READ_AS_OTHERS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"}

_DOCUMENT_MARK = re.compile(r"^\ufeff?(?:---|\.\.\.)(?=\s|\Z)", re.MULTILINE)
_CONTENT = re.compile(r"^(?!%)\ufeff?(?:(?:---|\.\.\.)(?=\s|\Z))?+[^\S\n]*+[^#\s]", re.MULTILINE)

_COLLECTIONS: dict[type[Node], str] = {SequenceNode: SEQ, MappingNode: MAP}


# In brackets the node agents' library reads `a:` before a comma or a bracket as a text, but libyaml refuses the colon. So the
# colon is replaced by another character before parsing.
_REFUSED_COLON, _COLON, _MOST_COLONS = "found unexpected ':'", "\ue001", 20

# `! 12` is a text, but the composer reads it like `12`.
_NON_SPECIFIC = re.compile(r"(?:^|[\s\[{,])!(?=\s)").search


class _Resolver:
    """The rules of yaml.v2 in place of PyYAML's."""

    def resolve(self, kind: type[Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is ScalarNode:
            return scalars.tag_of(value) if implicit[0] else STR
        return _COLLECTIONS[kind]

    def descend_resolver(self, *_: object) -> None: ...

    def ascend_resolver(self) -> None: ...


class _Loader(_Resolver, yaml.CSafeLoader):
    """libyaml's parser."""


class _Dumper(_Resolver, yaml.CSafeDumper):
    """libyaml's emitter."""


class InvalidYAML(ValueError):
    """The text is no valid YAML for configs. The message contains no text of the author. line: counted from 1, or None."""

    def __init__(self, problem: str, at: Node | yaml.Event | None = None, line: int | None = None) -> None:
        if at is not None and at.start_mark is not None:
            line = at.start_mark.line + 1
        self.problem, self.line = problem, line
        super().__init__(problem if line is None else f"line {line}: {problem}")


def read(text: str) -> Node | None:
    """Return the text's first document as a normalised tree (see `normalise`); None without one. Raises InvalidYAML."""
    root = compose(text)
    if root is not None:
        normalise(root)
    return root


def compose(text: str) -> Node | None:
    """Return the text's first document as a tree with aliases expanded; None without one. Raises InvalidYAML.

    Allowed are MAX_BYTES of UTF-8 and, after expanding aliases, MAX_NODES nodes, MAX_BYTES in scalars and MAX_DEPTH nested
    collections. No node occurs twice in the tree.
    """
    _refuse_unstorable(text)
    first, _ = documents(text)
    mended = first
    for _ in range(_MOST_COLONS):
        try:
            root = _document(mended)
        except yaml.MarkedYAMLError as error:
            if error.problem == _REFUSED_COLON and error.problem_mark is not None and _COLON not in first:
                # Marks don't count a byte order mark.
                at = error.problem_mark.index + mended.startswith("\ufeff")
                mended = f"{mended[:at]}{_COLON}{mended[at + 1 :]}"
                continue
            problem, line = yamlerrors.explain(first, error)
            raise InvalidYAML(problem, line=line) from None
        except yaml.reader.ReaderError as error:
            raise InvalidYAML(error.reason, line=first.encode().count(b"\n", 0, error.position) + 1) from None
        for node in nodes(root) if root is not None and mended is not first else ():
            if isinstance(node, ScalarNode):
                node.value = node.value.replace(_COLON, ":")
        return root
    raise InvalidYAML(f"has more than {_MOST_COLONS} colons before a comma or a bracket: put these texts in quotes")


def documents(text: str) -> tuple[str, str]:
    """Return the first document and the rest of the text, which agents do not read."""
    begun = False
    for mark in _DOCUMENT_MARK.finditer(text):
        if begun or mark[0].endswith("...") or says_something(text[: mark.start()]):
            return text[: mark.start()], text[mark.start() :]
        begun = True
    return text, ""


def says_something(text: str) -> bool:
    """Return whether the text has more than blank lines, comments, directives and document marks."""
    return _CONTENT.search(text) is not None


def _document(text: str) -> Node | None:
    if "*" in text or sum(map(text.count, _INDICATORS)) > _HARMLESS_INDICATORS:
        _survey(text)
    if "*" in text or _NON_SPECIFIC(text):
        return _expanded(text)
    loader = _Loader(text)
    try:
        root: Node | None = loader.get_node() if loader.check_node() else None
    except yaml.composer.ComposerError:
        # Two anchors have the same name.
        return _expanded(text)
    finally:
        loader.dispose()
    return root


def write(node: Node, dumper: type[yaml.CSafeDumper] = _Dumper) -> str:
    """Return the tree as libyaml writes it with this dumper. Raises InvalidYAML for tags and characters that YAML can't hold."""
    try:
        text: str = yaml.serialize(node, Dumper=dumper, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        raise InvalidYAML("holds a tag or a character that can't be written", node) from None
    # libyaml marks an open end with `...`.
    return text[:-4] if text.endswith(("\n...\n", "\u2028...\n", "\u2029...\n")) else text


def one_line(text: str) -> str:
    """Return the text as a scalar on one line of block YAML."""
    plain = _style(text) is None and ": " not in text and " #" not in text and not text.endswith(":")
    return text if plain else json.dumps(text, ensure_ascii=False)


def nodes(root: Node) -> Iterator[Node]:
    """Yield every node of a tree. Without recursion, since it may be deep."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            waiting += node.value


def get(node: MappingNode, key: str) -> Node | None:
    """Return the value of a text key; None without one."""
    for name, value in node.value:
        if name.value == key and name.tag == STR:
            found: Node = value
            return found
    return None


def put(node: MappingNode, key: str, value: Node) -> None:
    """Set the value of a text key. The keys must be sorted and stay so."""
    node.value = [pair for pair in node.value if pair[0].value != key or pair[0].tag != STR]
    bisect.insort(node.value, (text_node(key), value), key=_order)


def text_node(text: str) -> ScalarNode:
    """Return a scalar that every parser reads as this text."""
    return ScalarNode(STR, text, style=_style(text))


def set_text(node: ScalarNode, text: str) -> None:
    """Replace a scalar by this text, whatever its type was."""
    node.tag, node.value, node.style = STR, text, _style(text)


def sequence(items: list[str]) -> SequenceNode:
    """Return a list of texts."""
    return SequenceNode(SEQ, [text_node(item) for item in items], flow_style=False)


def mapping(**values: Node) -> MappingNode:
    """Return a map of texts to these values."""
    pairs = [(text_node(key), values[key]) for key in sorted(values)]
    return MappingNode(MAP, pairs, flow_style=False)


def true() -> ScalarNode:
    """Return the scalar `true`."""
    return ScalarNode(BOOL, "true")


def is_null(node: Node | None) -> bool:
    """Return whether the node is None or a null."""
    return node is None or node.tag == NULL


def is_true(node: Node) -> bool:
    """Return whether the node is a word for true, without quotes."""
    return isinstance(node, ScalarNode) and scalars.value_of(node.tag, node.value)[1] == "true"


def _refuse_unstorable(text: str) -> None:
    if "\0" in text:
        raise InvalidYAML("holds a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidYAML("is not valid UTF-8") from None
    if size > MAX_BYTES:
        raise InvalidYAML(f"has {size} bytes, allowed are {MAX_BYTES}")


class _Extent:
    """The size of a part of a text after its aliases are expanded: nodes, characters and depth."""

    __slots__ = ("anchor", "depth", "nodes", "size")

    def __init__(self, anchor: str | None, size: int = 0, depth: int = 0) -> None:
        self.anchor, self.nodes, self.size, self.depth = anchor, 1, size, depth

    def take(self, part: "_Extent", event: yaml.Event) -> None:
        """Add a part. Raises InvalidYAML when that is too much."""
        self.nodes += part.nodes
        self.size += part.size
        self.depth = max(self.depth, part.depth + 1)
        if self.nodes > MAX_NODES:
            raise InvalidYAML(f"has more than {MAX_NODES} nodes", event)
        if self.size > MAX_BYTES:
            raise InvalidYAML(f"expands to more than {MAX_BYTES} bytes", event)


def _survey(text: str) -> None:
    """Raise InvalidYAML for a text that is too large, from the parser's events alone, without building a tree or recursing."""
    anchored: dict[str, _Extent] = {}
    open_parts = [_Extent(None)]
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append(_Extent(event.anchor, depth=1))
        elif isinstance(event, yaml.CollectionEndEvent):
            part = open_parts.pop()
            _close(part, open_parts, anchored, event)
        elif isinstance(event, yaml.ScalarEvent):
            _close(_Extent(event.anchor, len(event.value)), open_parts, anchored, event)
        elif isinstance(event, yaml.AliasEvent):
            _close(_aliased(event, anchored, open_parts), open_parts, anchored, event)
        if len(open_parts) > MAX_DEPTH + 1:
            raise InvalidYAML(f"nests deeper than {MAX_DEPTH}", event)


def _close(part: _Extent, open_parts: list[_Extent], anchored: dict[str, _Extent], event: yaml.Event) -> None:
    if part.anchor is not None:
        anchored[part.anchor] = part
    open_parts[-1].take(part, event)
    if len(open_parts) - 1 + part.depth > MAX_DEPTH:
        raise InvalidYAML(f"nests deeper than {MAX_DEPTH}", event)


def _aliased(event: yaml.AliasEvent, anchored: dict[str, _Extent], open_parts: list[_Extent]) -> _Extent:
    if any(part.anchor == event.anchor for part in open_parts):
        raise InvalidYAML("an alias is inside of what it refers to", event)
    if event.anchor not in anchored:
        raise InvalidYAML("an alias refers to no earlier anchor: put a text that begins with * in quotes", event)
    return anchored[event.anchor]


def _events(text: str) -> Iterator[yaml.Event]:
    """The events of the first document."""
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        yield event


def _expanded(text: str) -> Node | None:
    """The tree of a text, with a copy in place of each alias. Of equal anchors the last one before the alias counts."""
    anchored: dict[str, Node] = {}
    parts: list[list[Node]] = [[]]
    begun: list[yaml.CollectionStartEvent] = []
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            parts.append([])
            begun.append(event)
        elif isinstance(event, yaml.AliasEvent):
            parts[-1].append(_copy(anchored[event.anchor or ""]))
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            start = event if isinstance(event, yaml.ScalarEvent) else begun.pop()
            node = _node(start, [] if start is event else parts.pop())
            parts[-1].append(node)
            if start.anchor is not None:
                anchored[start.anchor] = node
    return parts[0][0] if parts[0] else None


def _node(event: yaml.ScalarEvent | yaml.CollectionStartEvent, parts: list[Node]) -> Node:
    start: Any = event.start_mark
    end: Any = event.end_mark
    if isinstance(event, yaml.ScalarEvent):
        is_plain = event.tag is None and event.implicit[0]
        tag = scalars.tag_of(event.value) if is_plain else STR if event.tag in (None, "!") else event.tag
        return ScalarNode(tag, event.value, start, end, style=event.style)
    if isinstance(event, yaml.MappingStartEvent):
        return MappingNode(event.tag or MAP, list(zip(parts[::2], parts[1::2], strict=True)), start)
    return SequenceNode(event.tag or SEQ, parts, start)


def _copy(node: Node) -> Node:
    if isinstance(node, ScalarNode):
        return ScalarNode(node.tag, node.value, node.start_mark, node.end_mark, style=node.style)
    if isinstance(node, MappingNode):
        pairs = [(_copy(key), _copy(value)) for key, value in node.value]
        return MappingNode(node.tag, pairs, node.start_mark)
    return SequenceNode(node.tag, [_copy(item) for item in node.value], node.start_mark)


def normalise(node: Node, depth: int = 1) -> None:
    """Normalise a tree in place, so that texts with the same meaning have the same form. Raises InvalidYAML.

    Block style, sorted keys, the last of equal keys (as parsers do), merge keys resolved, `null` for null, quotes only where
    they could matter. Plain scalars keep their spelling.
    """
    if isinstance(node, ScalarNode):
        _normalise_scalar(node)
    elif depth > MAX_DEPTH:
        raise InvalidYAML(f"nests deeper than {MAX_DEPTH}", node)
    elif isinstance(node, MappingNode):
        _normalise_map(node, depth)
    elif isinstance(node, SequenceNode):
        node.flow_style = False
        for item in node.value:
            normalise(item, depth + 1)


def _normalise_scalar(node: ScalarNode) -> None:
    if node.tag != STR:
        tag, _ = resolved(node)
        if tag == NULL:
            node.value = "null"
        if scalars.tag_of(node.value) == node.tag:
            node.style = None
    elif node.style or "\n" in node.value:
        node.style = _style(node.value)


def resolved(node: ScalarNode) -> tuple[str, str]:
    """Return the tag and the text of a scalar as node agents read it. Raises InvalidYAML."""
    try:
        return scalars.value_of(node.tag, node.value)
    except ValueError as error:
        raise InvalidYAML(str(error), node) from None


def _style(text: str) -> str | None:
    """The style of a text: plain when every parser reads it as a text, `|` for several lines, else quotes."""
    if _SURELY_TEXT(text) and text.lower() not in _READ_AS_OTHERS:
        return None
    if "\n" in text:
        return "|"
    return "'"


def _normalise_map(node: MappingNode, depth: int) -> None:
    node.flow_style = False
    pairs: dict[tuple[str, str], tuple[Node, Node]] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            # `{{ … }}` is a map whose key is a map of keys without values.
            is_template = (
                isinstance(key, MappingNode) and key.flow_style and all(is_null(each) for _, each in key.value)
            )
            raise InvalidYAML(yamlerrors.NO_TEMPLATES if is_template else "a key is not a scalar", key)
        _normalise_scalar(key)
        normalise(value, depth + 1)
        if key.tag == MERGE:
            for source in merge_sources(value):
                pairs.update({resolved(pair[0]): pair for pair in source.value})
        else:
            pairs[resolved(key)] = key, value
    node.value = sorted(pairs.values(), key=_order)


def merge_sources(value: Node) -> Iterator[MappingNode]:
    """Yield the maps of a merge key in the order in which they override: the first in the text is last."""
    for source in reversed(value.value) if isinstance(value, SequenceNode) else [value]:
        if not isinstance(source, MappingNode):
            raise InvalidYAML("a merge key refers to something that is not a map", value)
        yield source


def _order(pair: tuple[Node, Node]) -> tuple[str, str]:
    return pair[0].value, pair[0].tag
