"""Patterns that people write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusteragent.lib.patterns import fits, overlap


@pytest.mark.parametrize(("pattern", "text", "is_one"), [
    ("web-?", "web-1", True), ("web-?", "web-10", False), ("web*", "web", True), ("web*", "Web", False), ("*", "anything[", True),
    ("web[12]", "web1", False), ("web[12]", "web[12]", True), ("[!a]*", "birch", False), ("[[]", "[", False), ("a]", "a]", True),
])  # fmt: skip
def test_stars_and_question_marks_alone_stand_for_something_else(pattern: str, text: str, is_one: bool) -> None:
    assert fits(text, pattern) is is_one


@pytest.mark.parametrize(("one", "other", "do"), [
    ("runner-*", "runner-a-*", True), ("*-a", "runner-*", True), ("a*b", "ab*", True), ("a?", "?b", True), ("*", "", True),
    ("", "", True), ("runner-*", "node-*", False), ("*-a", "*-b", False), ("a?", "a", False), ("a*c", "ab", False),
    ("A*", "a*", False), ("", "?", False), ("*a*b*c", "*c*b*a", False),
    ("*a*b*", "*b*a*", True), ("?*", "?", True), ("[a]", "a", False),
])  # fmt: skip
def test_patterns_overlap_where_a_text_fits_both(one: str, other: str, do: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is do


@given(*[st.text("ab*?", max_size=5)] * 2, st.text("ab", max_size=6))
def test_what_fits_both_patterns_is_in_their_overlap(one: str, other: str, text: str) -> None:
    assert overlap(one, other) or not (fits(text, one) and fits(text, other))
