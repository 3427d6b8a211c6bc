"""YAML as the node agents' library reads it and writes it again: the bytes of the Datadog Cluster Agent.

A tree that was read here holds what is written, so that changing it and writing it are all that is left. Emitter and
parser are libyaml's, as that library's are. Pure.
"""

import re
from functools import cmp_to_key

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import scalars, yamlnodes
from checks.wire.scalars import BINARY, BOOL, FLOAT, INT, MERGE, NULL, STR
from checks.wire.yamlnodes import MAP, MAX_DEPTH, SEQ, OddYAML

_Identity = tuple[str, str]
_Pairs = dict[_Identity, tuple[ScalarNode, Node]]

# Keys of these characters alone are sorted as their code points are.
_SIMPLE = re.compile(r"[ -/:-@\[-`a-z]*").fullmatch
# The order of keys that are not compared otherwise.
_RANKS = {BOOL: 1, INT: 2, FLOAT: 14, NULL: 20, STR: 24, BINARY: 24}
_UNSIGNED = 11
# Where libyaml's port in Go differs: it does not indent a quote after a line separator, and it escapes all of a text that
# begins with a byte order mark.
_SUSPECT = re.compile(r"[\u2028\u2029] *'|\"\\uFEFF").search
_MARK = "\ue000"
_OUT_OF_REACH = re.compile(r"[^\n\r\x85\u2028\u2029\U00010000-\U0010ffff]").fullmatch
_UNLIKE = re.compile(rf" *{_MARK}|\\U000F([0-9A-F]{{4}})")
_ESCAPES = dict(zip(b'\0\a\b\t\n\v\f\r\x1b"\\', '0abtnvfre"\\', strict=True))
_ESCAPES |= {0x85: "N", 0xA0: "_", 0x2028: "L", 0x2029: "P"}
_PRINTED = {(NULL, "null"): "<nil>", (FLOAT, ".inf"): "+Inf", (FLOAT, "-.inf"): "-Inf", (FLOAT, ".nan"): "NaN"}


class _Implied:
    """Equal to every tag that needn't be written."""

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
    """The text's first document with each scalar as it is written, None when it has none. Raises OddYAML."""
    root = yamlnodes.compose(text)
    if root is not None:
        _settle(root, 1)
    return root


def write(node: Node) -> str:
    """The tree as it is sent. Raises OddYAML for what YAML can't hold."""
    text = _serialized(node)
    if _SUSPECT(text) and not _UNLIKE.search(text):
        return _UNLIKE.sub(_mended, _serialized(_marked(node)))
    return text


def _serialized(node: Node) -> str:
    try:
        text: str = yaml.serialize(node, Dumper=_Dumper, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        raise OddYAML("holds a character that can't be written", node) from None
    # libyaml's mark of an end that is open.
    return text[:-4] if text.endswith(("\n...\n", "\u2028...\n", "\u2029...\n")) else text


def _marked(node: Node) -> Node:
    """A copy in which the ends of texts that libyaml writes otherwise are marked, and their characters out of its reach."""
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
    """A scalar that is this text."""
    return ScalarNode(STR, text, style=scalars.style_of(text))


def texts_node(texts: list[str]) -> SequenceNode:
    """A list of texts."""
    return SequenceNode(SEQ, [text_node(text) for text in texts], flow_style=False)


def put(node: MappingNode, key: str, value: Node) -> None:
    """Set a key of text."""
    others = [pair for pair in node.value if pair[0].value != key or pair[0].tag != STR]
    node.value = _in_order([*others, (text_node(key), value)])


def printed(node: Node) -> str:
    """What Go prints of a value: how something that is no text becomes a tag."""
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
    """Whether Go takes a number for a whole one."""
    return int(number.value) < 2**63 if number.tag == INT else (_number(number) or 0) <= 2**63


def _settle(node: Node, depth: int) -> None:
    if isinstance(node, ScalarNode):
        _settle_scalar(node)
    elif depth > MAX_DEPTH:
        raise OddYAML(f"nests deeper than {MAX_DEPTH}", node)
    elif isinstance(node, MappingNode):
        _settle_map(node, depth)
    elif isinstance(node, SequenceNode):
        node.tag, node.flow_style = SEQ, False
        for item in node.value:
            _settle(item, depth + 1)


def _settle_scalar(node: ScalarNode) -> None:
    if node.tag == STR:
        node.style = scalars.style_of(node.value)
        return
    try:
        node.tag, node.value = scalars.value_of(node.tag, node.value)
    except ValueError as error:
        raise OddYAML(str(error), node) from None
    node.style = scalars.style_of(node.value) if node.tag == STR else "|" if "\n" in node.value else None


def _settle_map(node: MappingNode, depth: int) -> None:
    pairs: _Pairs = {}
    _collect(node, pairs, depth)
    node.tag, node.flow_style = MAP, False
    node.value = _in_order(list(pairs.values()))
    if (STR, "<<") in pairs:
        # It was in quotes, and is written without, so that it counts as a merge key when the agent reads it again.
        pairs = {}
        _collect(node, pairs, depth, merge=STR)
        node.value = _in_order(list(pairs.values()))


def _collect(node: MappingNode, pairs: _Pairs, depth: int, merge: str = MERGE) -> None:
    """Add a map's pairs, in the order in which they stand: a merge key overrides what stands before it, as in yaml.v2.

    merge: the tag that makes `<<` a merge key.
    """
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise OddYAML("a key is not a scalar", key)
        if key.tag == merge and key.value == "<<":
            for source in yamlnodes.merge_sources(value):
                _collect(source, pairs, depth + 1, merge)
            continue
        _settle_scalar(key)
        _settle(value, depth + 1)
        if key.tag == FLOAT:
            # Written alike: the number with a point comes last, and counts when the agent reads it again.
            pairs.pop((INT, key.value), None)
            # Go can't find it again under this key.
            value = ScalarNode(NULL, "null") if key.value == ".nan" else value
        if key.tag != INT or (FLOAT, key.value) not in pairs:
            pairs[key.tag, key.value] = key, value


def _in_order(pairs: list[tuple[ScalarNode, Node]]) -> list[tuple[ScalarNode, Node]]:
    """Numbers and booleans, null, texts; numbers in a text count as numbers."""
    keys = [key.value if key.tag == STR else "0" for key, _ in pairs]
    if _SIMPLE("".join(keys)):
        return sorted(pairs, key=_value)
    return sorted(pairs, key=_by_order)


def _value(pair: tuple[ScalarNode, Node]) -> str:
    text: str = pair[0].value
    return text


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
    """Compare texts: `z9` before `z10`, letters after all else."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x == y:
            continue
        if x.isalpha() or y.isalpha():
            return ord(x) - ord(y) if x.isalpha() and y.isalpha() else x.isalpha() - y.isalpha()
        (number_a, end_a), (number_b, end_b) = _digits(a, b, place), _digits(b, a, place)
        return number_a - number_b or end_a - end_b or ord(x) - ord(y)
    return len(a) - len(b)


def _digits(text: str, other: str, place: int) -> tuple[int, int]:
    """The number that begins at a place, as Go's 64 bits hold it, and where it ends."""
    number, end = 0, place
    if "0" in (text[place], other[place]):
        # A zero after other digits is one of their number's.
        number = int(_ends_in_a_number(text, place))
    while end < len(text) and text[end].isdecimal():
        number = (number * 10 + ord(text[end]) - ord("0")) % 2**64
        end += 1
    return number - 2**64 if number >= 2**63 else number, end


def _ends_in_a_number(text: str, place: int) -> bool:
    """Whether digits that are not all zeros stand before a place."""
    while place > 0 and text[place - 1].isdecimal():
        place -= 1
        if text[place] != "0":
            return True
    return False
