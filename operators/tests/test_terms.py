"""The language of the filter bar."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.terms import MOST_CHARACTERS, MOST_TERMS, BadQuery, Term, parse, written

WORDS = ("tag", "check", "state")


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("", []),
        ("  ", []),
        ("shop db-07", [Term("", "shop"), Term("", "db-07")]),
        ("tag:env:prod", [Term("tag", "env:prod")]),
        ("-tag:env:prod  x", [Term("tag", "env:prod", is_not=True), Term("", "x")]),
        ('tag:"a b" "host: db"', [Term("tag", "a b"), Term("", "host: db")]),
        (r'tag:"a \"b\" \\"', [Term("tag", 'a "b" \\')]),
        ("http://shop:80", [Term("", "http://shop:80")]),
        ("HOST:80", [Term("", "HOST:80")]),
        ("http_check:k1", [Term("", "http_check:k1")]),
        ("host: db", [Term("", "host:"), Term("", "db")]),
        ("-n it's", [Term("", "-n"), Term("", "it's")]),
        ('say"', [Term("", 'say"')]),
        ("tag:-x", [Term("tag", "-x")]),
    ],
)
def test_a_query_is_read(query: str, terms: list[Term]) -> None:
    assert parse(query, WORDS) == terms


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (
            "colour:red",
            'there is no filter colour:, there are tag:, check:, state:. What is text stands in quotes: "colour:…"',
        ),
        ('tag:"a b', 'a quote has no end, or no blank after it: tag:"a b'),
        ('x "a"b', 'a quote has no end, or no blank after it: "a"b'),
        ("check: x", "check: needs a value"),
        ("-check:", "-check: needs a value"),
        ("x" * (MOST_CHARACTERS + 1), "a query has at most 500 characters"),
        ("x " * (MOST_TERMS + 1), "a query has at most 10 terms"),
    ],
)
def test_what_can_not_be_understood_is_refused_by_name(query: str, error: str) -> None:
    with pytest.raises(BadQuery) as refused:
        parse(query, WORDS)
    assert str(refused.value) == error


_VALUES = st.text(min_size=1, max_size=20)


@example([Term(WORDS[0], "//x", False)])
@given(
    st.lists(
        st.builds(Term, st.sampled_from(WORDS), _VALUES, st.booleans())
        | st.builds(Term, st.just(""), _VALUES, st.just(False)),
        max_size=8,
    )
)
def test_what_is_written_is_read_again(terms: list[Term]) -> None:
    query = written(terms)
    if len(query) <= MOST_CHARACTERS:
        assert parse(query, WORDS) == terms


@given(st.text(alphabet='ab:/"\\- \n', max_size=40))
def test_any_text_is_read_or_refused(query: str) -> None:
    try:
        terms = parse(query, WORDS)
    except BadQuery:
        return
    assert parse(written(terms), WORDS) == terms
