"""A node token that agents use and that ends soon is a need, and a warning of the doctor, before its pool is refused."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from checks.explain import alerts
from clusteragent import doctor
from clusteragent.lib import clock
from nodes.models import NodeToken
from tests.table import table

pytestmark = pytest.mark.django_db


def made(note: str, *, lasts: timedelta, left: timedelta, used: timedelta | None) -> NodeToken:
    now = clock.now()
    row = NodeToken(note=note, pattern="runner-*", expires_at=now + left)
    row.draw()
    row.save()
    NodeToken.objects.filter(pk=row.pk).update(
        time=now + left - lasts, last_used_at=None if used is None else now - used
    )
    return row


def causes() -> list[str]:
    return [alert.cause for alert in alerts.current() if alert.kind == alerts.Kind.TOKEN_ENDS]


@table(
    ("lasts", "left", "used", "said"),
    [
        (90, 6, 0, True),
        (90, 8, 0, False),
        # Nobody uses it any more, or ever did.
        (90, 6, 1, False),
        (90, 6, None, False),
        # It has ended: those who show it are told by being refused.
        (90, -1, 0, False),
        # Of one for a day, the last four hours.
        (1, 0.25, 0, False),
        (1, 0.125, 0, True),
    ],
)
def test_one_in_use_that_ends_soon_is_named(lasts: float, left: float, used: float | None, said: bool) -> None:
    NodeToken.objects.all().delete()
    days = {"lasts": timedelta(days=lasts), "left": timedelta(days=left)}
    row = made("runners", **days, used=None if used is None else timedelta(days=used))
    found, findings = causes(), [finding.text for finding in doctor.ending_tokens()]
    assert (len(found), len(findings)) == (said, said)
    if said:
        assert "The node token of runners is in use and ends in " in found[0]
        assert row.key in findings[0]


def test_several_are_one_need_and_a_rotation_ends_it() -> None:
    for note, left in (("zone b", 5), ("zone a", 3)):
        made(note, lasts=timedelta(days=90), left=timedelta(days=left, minutes=1), used=timedelta(0))
    [cause] = causes()
    assert cause.startswith("Node tokens of zone a and zone b are in use and end, the first in 3 d")
    NodeToken.objects.update(last_used_at=Now() - timedelta(minutes=6))
    assert causes() == []
