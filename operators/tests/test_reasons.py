"""Every reason of a move is told everywhere by its row of one table."""

import re
from datetime import UTC, datetime
from pathlib import Path

import operators
from checks.explain.reasons import Grouping, words
from checks.models import Move
from operators.pages.bars import reasons_of
from operators.pages.stories import LedgerLine, cause_of_move, fold
from operators.pages.titles import titled

PALETTE = Path(operators.__file__).parent / "static/operators/pages.css"
# They bring no config to a node, or take none from one that should have another.
NO_OWNER = {"unscheduled", "paused", "unfetched"}


def colours() -> set[str]:
    return set(re.findall(r"^\.pages \.pages-(\w+) \{ fill: #", PALETTE.read_text(), re.MULTILINE))


def test_each_has_a_colour_of_the_palette_that_no_other_has() -> None:
    used = [words(reason).colour for reason in Move.Reason]
    assert len(set(used)) == len(used)
    assert set(used) <= colours()


def test_each_says_why_a_config_is_where_it_is_or_why_it_has_no_node() -> None:
    for reason in Move.Reason:
        told = words(reason)
        assert bool(told.placed) is (reason not in NO_OWNER), reason
        assert told.lost or reason not in NO_OWNER - {"unscheduled", "unfetched"}, reason
        for sentence in (told.placed, told.lost):
            named = sentence.format(to="ash", source="birch", actor="olga")
            assert "{" not in named
        assert not told.dangles or told.lost, reason


def test_each_is_told_as_a_story() -> None:
    for number, reason in enumerate(Move.Reason):
        step = LedgerLine(datetime.now(UTC), number, 1, "birch", "ash", reason, "olga")
        [story] = fold([step], [])
        assert story.cause == cause_of_move(step)
        [(_, title, _)] = titled([story])
        assert re.match(r"\w", title), reason
        if words(reason).grouping == Grouping.OWN:
            assert title == f"{words(reason).title} by olga"
        assert bool(words(reason).outcome) is (words(reason).grouping == Grouping.SENT), reason


def test_one_that_this_release_does_not_know_is_told_nevertheless() -> None:
    told = words("teleported")
    assert (told.colour, told.title) == ("grey", "Teleported")
    assert told.placed.format(to="ash", source="birch", actor="olga") == "It went to ash"
    assert reasons_of([("teleported", 3)]) == [("grey", "teleported", 3)]
