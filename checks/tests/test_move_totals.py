"""Every move is counted by its reason, even after pruning."""

import pytest

from checks import dispatcher
from checks.models import Move, MoveTotal
from checks.tests.cast import report, sent, silence
from clusteragent.lib.database import bulk

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def totals() -> dict[str, int]:
    return dict(MoveTotal.objects.values_list("reason", "number"))


def test_moves_are_counted_however_they_are_written() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two"), sent("three"), sent("four")])
    silence("ash")
    dispatcher.expire_nodes()
    dispatcher.redispatch()
    assert totals() == {"scheduled": 4, "expired": 2, "redispatched": 2}


def test_what_is_pruned_stays_counted() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    assert bulk.delete(Move.objects.order_by("time")) == 2
    dispatcher.schedule([sent("three")])
    assert totals() == {"scheduled": 3}
