"""Very many lost nodes return at once, in batches: no further config moves."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.models import Config, Move
from checks.tests.cast import counts, dangling, lead, owners, report, sent, silence, versions
from clusteragent.lib import conf
from nodes.models import Hearing, Node
from nodes.models.heartbeats import Report
from tests.map import tell

pytestmark = pytest.mark.django_db

NAMES = [f"node-{number:03}" for number in range(200)]
AWAY = NAMES[:120]


def one_pass() -> int:
    """How many moves a pass makes."""
    before = Move.objects.count()
    dispatcher.run_pass(lead())
    return Move.objects.count() - before


def come_back(versions: dict[str, int], *names: str) -> list[object]:
    """The nodes report the versions that they had fetched."""
    reports = [Report(name, versions[name]) for name in names]
    return [outcome for start in range(0, len(reports), 16) for outcome in tell(reports[start : start + 16])]


@pytest.fixture(autouse=True)
def whole(warm: None) -> None:
    report(*NAMES)
    # Else each would count as one that came for another.
    Node.objects.update(first_seen=Now() - timedelta(hours=1))
    dispatcher.schedule([sent(f"{number:03}") for number in range(400)])
    assert set(counts().values()) == {2}


def test_while_the_brake_held_nothing_moves() -> None:
    fetched = versions()
    silence(*AWAY)
    assert one_pass() == 0
    assert Hearing.objects.get().braked_since is not None
    assert come_back(fetched, *AWAY) == [True] * len(AWAY)
    assert [one_pass() for _ in range(3)] == [0, 0, 0]


def lose_many() -> None:
    """Sixty per cent of the nodes are lost, and others are given what they can have now."""
    silence(*AWAY)
    one_pass()
    Hearing.objects.update(braked_since=Now() - conf.NODE_EXPIRATION_TIMEOUT * 2)
    assert one_pass() > 0
    assert Node.objects.lost().count() == len(AWAY)
    assert 0 < len(dangling()) < 240


def test_what_others_have_not_fetched_goes_back() -> None:
    fetched, before = versions(), owners()
    lose_many()
    come_back(fetched, *AWAY)
    [share] = Config.objects.shares_of([AWAY[0]])
    assert share is not None
    assert share.unsure, "it keeps what it runs until the pass"
    one_pass()
    assert owners() == before
    assert [one_pass() for _ in range(3)] == [0, 0, 0]


def test_what_others_fetched_meanwhile_stays_with_them() -> None:
    fetched = versions()
    lose_many()
    waits = len(dangling())
    now = versions()
    tell([Report(name, now[name]) for name in NAMES[len(AWAY) :]])
    # They are told that what they run is not theirs any more.
    assert come_back(fetched, *AWAY) == [False] * len(AWAY)
    assert one_pass() == waits
    assert not dangling()
    assert [one_pass() for _ in range(3)] == [0, 0, 0]
    assert Node.objects.alive().filter(heartbeat__seen_at__gte=Now() - timedelta(minutes=1)).count() == len(NAMES)
