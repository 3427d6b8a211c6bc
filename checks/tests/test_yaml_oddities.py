"""YAML that is read differently than meant gets a warning with its line."""

import pytest

from checks.wire import yamlnodes
from checks.wire.oddities import Oddity, oddities
from checks.wire.yamlnodes import InvalidYAML
from tests.table import table

NO_NUMBER = "node agents read a number here, Python checks read a text"
UNLOADABLE = "node agents read a text here, Python checks can't load the config"
INEXACT = "this whole number has more than 64 bits and becomes inexact: put it in quotes"
TAG = "this YAML tag is unknown and ignored: a text that begins with ! needs quotes"
COMMENT = "in a block text a line that begins with # is part of the text, not a comment"
MERGE = "a merge key overrides the keys before it in the same map: move it to the beginning"
SECOND = "a second document begins here: only the first one is read"


def odd(text: str) -> list[Oddity]:
    root = yamlnodes.compose(text)
    return [] if root is None else oddities(root, text)


@table(
    ("text", "told"),
    [
        ("a: 1e+06", [(1, NO_NUMBER)]),
        ("a: 1000000.0", [(1, NO_NUMBER)]),
        ("- x\n- {1e+06: b}", [(2, NO_NUMBER)]),
        ("a: =", [(1, UNLOADABLE)]),
        ("a: '='", [(1, UNLOADABLE)]),
        ("a: <<", [(1, UNLOADABLE)]),
        ("- '<<'", [(1, UNLOADABLE)]),
        ("{2020-13-01: a}", [(1, UNLOADABLE)]),
        ("a: 2020-13-01", [(1, UNLOADABLE)]),
        ("a: 2001-12-14 21:59:43.10 -5", [(1, "node agents read a text here, Python checks read a date and time")]),
        ("a: .4_", [(1, "node agents read a text here, Python checks read a number")]),
        ("a: !!binary /w==", [(1, "these bytes are not text: Python checks get bytes")]),
        ("a: 123456789012345678901", [(1, INEXACT)]),
        ("a: -99_999_999_999_999_999_999", [(1, INEXACT)]),
        ("a: 18446744073709551616", [(1, INEXACT)]),
        ("a: -9223372036854775809", [(1, INEXACT)]),
        ("a: 0777777777777777777777777", [(1, INEXACT)]),
        ("a: [\n!mine 1,\n!!set {b},\n!x [1]]", [(2, TAG), (3, TAG), (4, TAG)]),
        ("q: |\n  SELECT 1\n  # not now\n  FROM t\n", [(3, COMMENT)]),
        ("q: >\n\n  a\n  #\n", [(4, COMMENT)]),
        ("q: |\n  # a\n  # b\n\n  # c\nr: |\n  # d\n", [(2, COMMENT), (7, COMMENT)]),
        ("a: 1\nx:\n- {b: 1, c: 2, b: 3}", [(3, "the key b occurs twice in one map: only the last one counts")]),
        ("a: 1\na: 2\na: 3", [(n, "the key a occurs twice in one map: only the last one counts") for n in (2, 3)]),
        ("{'a b': 1,\n a b: 2}", [(2, "a key occurs twice in one map: only the last one counts")]),
        ("{1: a, 0x1: b}", [(1, "a key occurs twice in one map: only the last one counts")]),
        ("{1: a, 1.0: b}", [(1, "a key occurs twice in one map: only the last one counts")]),
        ("x: &x {a: 1}\ny:\n  a: 2\n  <<: *x\n", [(4, MERGE)]),
        ("a: 1\n---\nb: 2\n", [(3, SECOND)]),
        ("a: 1\n...\n# so\n---\n- b\n", [(5, SECOND)]),
    ],
)
def test_what_is_odd_is_told_with_its_line(text: str, told: list[tuple[int, str]]) -> None:
    assert odd(text) == [Oddity(*one) for one in told]


@table(
    "text",
    [
        "",
        "# nothing",
        "a: 2020-01-01\nb: 12:30\nc: 010\nd: y\ne: 1e3\nf: 4.0\ng: 1.5e-7\nh: ~\ni: .inf\nj: 0x1F\nk: 18446744073709551615",
        "a: '123456789012345678901'\nb: '1e+06'",
        "a: 08\nb: 089\nc: 0_8\nd: -09\ne: !!float 3\nf: 08.5",
        "a: !!str 1\nb: !!int '2'\nc: !!binary aGVsbG8=\nd: !!timestamp 2020-01-01\ne: !!map {}\nf: ! 1",
        "x: &x {a: 1, b: 1}\ny: {<<: *x, a: 2}\nz: {<<: [*x, {a: 3}]}",
        "q: | # why\n  SELECT a#b\n  FROM t\n# why not\nb: 'x\n  # y'\n",
        "a: 1 # so\nb: {1: x, '1': y, true: z, 'true': w}",
        "---\na: 1\n---\n",
        "a: 1\n...\n",
        "a: |\n  ---\n  b\n",
        "x: &x {b: 1}\ny: {'<<': *x, c: 2}\nz: {!!str <<: [{b: 1}]}\n=: 1",
    ],
)
def test_what_is_as_it_was_meant_is_not_told(text: str) -> None:
    assert odd(text) == []


def test_what_follows_the_first_document_may_be_no_yaml() -> None:
    assert odd("a: 1\n---\nb: [\n") == [Oddity(3, SECOND)]
    assert odd("a: 1\n---\n]\n") == [Oddity(3, SECOND)]


def test_what_can_t_be_read_is_an_error_and_no_oddity() -> None:
    with pytest.raises(InvalidYAML, match="line 2"):
        odd("a: 1\nb: ]")
