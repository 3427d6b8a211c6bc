"""What is written first of what waits."""

from unittest.mock import Mock

import pytest

from checks.sources.kubernetes.errors import Away, refusal
from checks.sources.kubernetes.events import Events
from checks.sources.kubernetes.resources import EVENTS, Call
from checks.sources.source import Problem


def test_of_each_namespace_one_is_written_in_turn() -> None:
    events = Events(Mock())
    loud = [Problem(f"service loud/web-{number}", None, "broken") for number in range(3)]
    events.want([*loud, Problem("service quiet/web", None, "broken"), Problem("service still/web", None, "broken")])
    taken = []
    while following := events._take():
        taken.append(following[0].where)
    assert taken == [
        "service loud/web-0", "service quiet/web", "service still/web", "service loud/web-1", "service loud/web-2",
    ]  # fmt: skip


@pytest.mark.parametrize("is_answer", [False, True])
def test_what_is_answered_for_one_object_says_nothing_of_others(is_answer: bool) -> None:
    call = Call("create", EVENTS, "shop")
    error = refusal(500, {"message": "request is too large\0"}, call) if is_answer else Away("can't connect")
    assert "\0" not in str(error)
    events = Events(Mock())
    problems = [Problem(f"service shop/web-{number}", None, "broken") for number in range(5)]
    events.want(problems)
    for _ in range(3):
        following = events._take()
        assert following
        events._note(following[0], error)
    assert bool(events._take()) == is_answer
