"""YAML as the node agents' library (yaml.v2) reads and writes it: the same bytes as the Datadog Cluster Agent.

`read` gives each scalar the text with which it is written, so a tree can be changed and written at once. Parser and emitter
are libyaml's, of which that library's are ports. Pure.
"""

import re
from functools import cmp_to_key

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import scalars, yamlnodes
from checks.wire.scalars import BINARY, BOOL, FLOAT, INT, MERGE, NULL, STR
from checks.wire.yamlnodes import MAP, MAX_DEPTH, SEQ, InvalidYAML

_Identity = tuple[str, str]
_Pairs = dict[_Identity, tuple[ScalarNode, Node]]

# Keys with only these characters are sorted by code point.
_SIMPLE = re.compile(r"[ -/:-@\[-`a-z]*").fullmatch
# The order of the types of keys that are not compared by value.
_RANKS = {BOOL: 1, INT: 2, FLOAT: 14, NULL: 20, STR: 24, BINARY: 24}
_UNSIGNED = 11
# Texts for which libyaml's port in Go writes something else: it does not indent a quote after a line separator, and it escapes
# the whole text after a byte order mark.
_SUSPECT = re.compile(r"[\u2028\u2029] *'|\"\\uFEFF").search
_MARK = "\ue000"
_OUT_OF_REACH = re.compile(r"[^\n\r\x85\u2028\u2029\U00010000-\U0010ffff]").fullmatch
_UNLIKE = re.compile(rf" *{_MARK}|\\U000F([0-9A-F]{{4}})")
_ESCAPES = dict(zip(b'\0\a\b\t\n\v\f\r\x1b"\\', '0abtnvfre"\\', strict=True))
_ESCAPES |= {0x85: "N", 0xA0: "_", 0x2028: "L", 0x2029: "P"}
_PRINTED = {(NULL, "null"): "<nil>", (FLOAT, ".inf"): "+Inf", (FLOAT, "-.inf"): "-Inf", (FLOAT, ".nan"): "NaN"}


class _Implied:
    """Equals every tag that need not be written."""

    def __eq__(self, tag: object) -> bool:
        return tag != BINARY

    __hash__ = None  # type: ignore[assignment]


class _Dumper(yaml.CSafeDumper):
    _implied = _Implied()

    def resolve(self, *_: object) -> _Implied:
        return self._implied

    def descend_resolver(self, *_: object) -> None: ...

    def ascend_resolver(self) -> None: ...


def read(text: str) -> Node | None:
    """Return the text's first document, each scalar with the text it is written with; None without one. Raises InvalidYAML."""
    root = yamlnodes.compose(text)
    if root is not None:
        _evaluate(root, 1)
    return root


def write(node: Node) -> str:
    """Return the tree as the text that is sent. Raises InvalidYAML for characters that YAML can't hold."""
    text = yamlnodes.write(node, _Dumper)
    if _SUSPECT(text) and not _UNLIKE.search(text):
        return _UNLIKE.sub(_mended, yamlnodes.write(_marked(node), _Dumper))
    return text


def _marked(node: Node) -> Node:
    """A copy that marks the texts which libyaml writes differently, so that `_mended` can correct its output."""
    if isinstance(node, ScalarNode):
        value = node.value
        if value[:1] == "\ufeff":
            value = "\ufeff" + "".join(chr(0xF0000 + ord(one)) if _OUT_OF_REACH(one) else one for one in value[1:])
        elif value[-1:] in ("\u2028", "\u2029") and "\n" not in value:
            value += _MARK
        return ScalarNode(node.tag, value, style=node.style)
    if isinstance(node, MappingNode):
        return MappingNode(node.tag, [(_marked(key), _marked(value)) for key, value in node.value], flow_style=False)
    return SequenceNode(node.tag, [_marked(item) for item in node.value], flow_style=False)


def _mended(found: re.Match[str]) -> str:
    if found[1] is None:
        return ""
    code = int(found[1], 16)
    return f"\\{_ESCAPES[code]}" if code in _ESCAPES else f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}"


def text_node(text: str) -> ScalarNode:
    """Return a scalar with this text."""
    return ScalarNode(STR, text, style=scalars.style_of(text))


def texts_node(texts: list[str]) -> SequenceNode:
    """Return a list of texts."""
    return SequenceNode(SEQ, [text_node(text) for text in texts], flow_style=False)


def put(node: MappingNode, key: str, value: Node) -> None:
    """Set the value of a text key, and sort the keys."""
    others = [pair for pair in node.value if pair[0].value != key or pair[0].tag != STR]
    node.value = _in_order([*others, (text_node(key), value)])


def printed(node: Node) -> str:
    """Return a value as Go prints it. A tag that is no text becomes this."""
    if isinstance(node, SequenceNode):
        return f"[{' '.join(map(printed, node.value))}]"
    if isinstance(node, MappingNode):
        pairs = sorted(node.value, key=_by_printing)
        return f"map[{' '.join(f'{printed(key)}:{printed(value)}' for key, value in pairs)}]"
    return _PRINTED.get((node.tag, node.value)) or str(node.value)


def _by_printing(pair: tuple[ScalarNode, Node]) -> tuple[bool, bool, float, str]:
    key = pair[0]
    return key.tag != NULL, key.tag != STR, _number(key) or 0.0, key.value


def fits_64_bits(number: ScalarNode) -> bool:
    """Return whether Go can convert the number to a 64-bit integer."""
    return int(number.value) < 2**63 if number.tag == INT else (_number(number) or 0) <= 2**63


def _evaluate(node: Node, depth: int) -> None:
    """Give each scalar of a tree the text that it is written with, and put the keys of each map in order."""
    if isinstance(node, ScalarNode):
        _evaluate_scalar(node)
    elif depth > MAX_DEPTH:
        raise InvalidYAML(f"nests deeper than {MAX_DEPTH}", node)
    elif isinstance(node, MappingNode):
        pairs: _Pairs = {}
        _collect(node, pairs, depth)
        node.tag, node.flow_style = MAP, False
        node.value = _in_order(list(pairs.values()))
        if (STR, "<<") in pairs:
            # It was in quotes and is written without, so the agent reads it as a merge key.
            pairs = {}
            _collect(node, pairs, depth, merge=STR)
            node.value = _in_order(list(pairs.values()))
    elif isinstance(node, SequenceNode):
        node.tag, node.flow_style = SEQ, False
        for item in node.value:
            _evaluate(item, depth + 1)


def _evaluate_scalar(node: ScalarNode) -> None:
    if node.tag == STR:
        node.style = scalars.style_of(node.value)
        return
    try:
        node.tag, node.value = scalars.value_of(node.tag, node.value)
    except ValueError as error:
        raise InvalidYAML(str(error), node) from None
    node.style = scalars.style_of(node.value) if node.tag == STR else "|" if "\n" in node.value else None


def _collect(node: MappingNode, pairs: _Pairs, depth: int, merge: str = MERGE) -> None:
    """Add a map's pairs in their order. A merge key overrides the pairs before it, as in yaml.v2.

    merge: the tag with which `<<` is a merge key.
    """
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise InvalidYAML("a key is not a scalar", key)
        if key.tag == merge and key.value == "<<":
            for source in yamlnodes.merge_sources(value):
                _collect(source, pairs, depth + 1, merge)
            continue
        _evaluate_scalar(key)
        _evaluate(value, depth + 1)
        if key.tag == FLOAT:
            # An integer and a float key can be written alike. The float comes last, so the agent takes that one.
            pairs.pop((INT, key.value), None)
            # In Go NaN differs from itself, so the value can't be found under this key.
            value = ScalarNode(NULL, "null") if key.value == ".nan" else value
        if key.tag != INT or (FLOAT, key.value) not in pairs:
            pairs[key.tag, key.value] = key, value


def _in_order(pairs: list[tuple[ScalarNode, Node]]) -> list[tuple[ScalarNode, Node]]:
    """Sort pairs by key: numbers and booleans, then null, then texts, in which digits are compared as numbers."""
    keys = [key.value if key.tag == STR else "0" for key, _ in pairs]
    if _SIMPLE("".join(keys)):
        return sorted(pairs, key=lambda pair: pair[0].value)
    return sorted(pairs, key=_by_order)


def _compare(one: tuple[ScalarNode, Node], other: tuple[ScalarNode, Node]) -> int:
    a, b = one[0], other[0]
    if a.tag in (STR, BINARY) and b.tag in (STR, BINARY):
        return _natural(a.value, b.value)
    number_a, number_b = _number(a), _number(b)
    if number_a is None or number_b is None or number_a == number_b:
        return _rank(a) - _rank(b) or int(a.value) - int(b.value)
    return -1 if number_a < number_b else 1


_by_order = cmp_to_key(_compare)


def _number(key: ScalarNode) -> float | None:
    if key.tag == BOOL:
        return float(key.value == "true")
    return float(key.value.replace(".inf", "inf").replace(".nan", "nan")) if key.tag in (INT, FLOAT) else None


def _rank(key: ScalarNode) -> int:
    return _UNSIGNED if key.tag == INT and int(key.value) >= 2**63 else _RANKS[key.tag]


def _natural(a: str, b: str) -> int:
    """Compare texts: `z9` before `z10`, letters after all other characters."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x == y:
            continue
        if x.isalpha() or y.isalpha():
            return ord(x) - ord(y) if x.isalpha() and y.isalpha() else x.isalpha() - y.isalpha()
        (number_a, end_a), (number_b, end_b) = _digits(a, b, place), _digits(b, a, place)
        return number_a - number_b or end_a - end_b or ord(x) - ord(y)
    return len(a) - len(b)


def _digits(text: str, other: str, place: int) -> tuple[int, int]:
    """The number that begins at a place, in Go's signed 64 bits, and the place where it ends."""
    number, end = 0, place
    if "0" in (text[place], other[place]):
        # A zero after other digits belongs to their number.
        number = int(_ends_in_a_number(text, place))
    while end < len(text) and text[end].isdecimal():
        number = (number * 10 + ord(text[end]) - ord("0")) % 2**64
        end += 1
    return number - 2**64 if number >= 2**63 else number, end


def _ends_in_a_number(text: str, place: int) -> bool:
    """Whether the digits before a place are a number other than 0."""
    while place > 0 and text[place - 1].isdecimal():
        place -= 1
        if text[place] != "0":
            return True
    return False
