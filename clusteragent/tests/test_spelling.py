"""Similarity of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusteragent.lib.spelling import differ_in_number, is_one_edit, near_misses, nearest


@pytest.mark.parametrize(
    ("one", "other"),
    [("postgres", "postgress"), ("postgres", "postgers"), ("abc", "abd"), ("aab", "aba"), ("aa", "aaa"), ("a", "")],
)
def test_one_edit_away(one: str, other: str) -> None:
    assert is_one_edit(one, other)
    assert is_one_edit(other, one)
    assert near_misses(one) & near_misses(other)


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("abc", "abcde"), ("abcd", "dbca"), ("ab", "cd"), ("", "ab")])
def test_not_one_edit_away(one: str, other: str) -> None:
    assert not is_one_edit(one, other)
    assert not is_one_edit(other, one)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_words_one_edit_apart_share_a_near_miss(one: str, other: str) -> None:
    if is_one_edit(one, other):
        assert near_misses(one) & near_misses(other)


def test_the_nearest_of_known_words() -> None:
    known = ["init_config", "instances", "logs"]
    assert [nearest(word, known) for word in ("initconfig", "Init-Config", "instance", "log", "tags", "")] == [
        "init_config", "init_config", "instances", "logs", "", ""
    ]  # fmt: skip


def test_words_that_differ_in_a_number_at_their_end() -> None:
    assert differ_in_number("query1", "query2")
    assert differ_in_number("mysql2", "mysql")
    assert not differ_in_number("mysql", "mysql")
    assert not differ_in_number("1query", "query")
