"""What is written first of what waits."""

from unittest.mock import Mock

from checks.sources.kubernetes.events import Events
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
