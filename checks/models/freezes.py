"""Freezes: operators switch automatic balancing off for a while. Options can switch it off, too.

Meanwhile rules, drains and pins still move configs, dead nodes still lose theirs, and a rebalance on request still works.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from acts.models import Act
from acts.recording import record
from checks.models.map import ClusterStore
from clusteragent.lib import conf


class FreezeQuerySet(models.QuerySet["Freeze"]):
    """Queries of freezes."""

    def in_force(self) -> FreezeQuerySet:
        """The freeze that is in force now; at most one."""
        return self.filter(Q(until=None) | Q(until__gte=Now()), ended_at=None)


class Freeze(models.Model):
    """Nothing is balanced automatically until `until`, or until someone ends it. Kept as long as the ledger."""

    author = models.CharField(max_length=253, blank=True)
    note = models.TextField(blank=True)
    time = models.DateTimeField(db_default=Now())
    until = models.DateTimeField(null=True, blank=True)
    # When and by whom it was ended early. The next freeze also ends this one.
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=253, db_default="")

    objects: ClassVar[Any] = FreezeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        end = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"frozen by {self.author or 'somebody'}{end}"


def freeze(*, actor: str, until: datetime | None = None, note: str = "") -> Freeze:
    """Freeze automatic balancing, in place of a freeze that is in force. No such move follows after it returns."""
    with transaction.atomic():
        _change_map()
        before = list(map(str, Freeze.objects.in_force()))
        _end(Freeze.objects.in_force(), actor)
        made: Freeze = Freeze.objects.create(author=actor, note=note, until=until)
        after = {"until": until.isoformat() if until else None}
        record(Act.Verb.FREEZE, "automatic balancing", before=before or None, after=after, reason=note)
    made.refresh_from_db()
    return made


def thaw(*, actor: str, only: Collection[int] | None = None) -> int:
    """End the freeze in force. Return how many that ended: 1 or 0. only: ids of what was shown; a newer freeze goes on."""
    with transaction.atomic():
        _change_map()
        in_force = Freeze.objects.in_force()
        ending = in_force if only is None else in_force.filter(pk__in=only)
        if before := list(map(str, ending)):
            record(Act.Verb.THAW, "automatic balancing", before=before)
        return _end(ending, actor)


def why_off() -> str:
    """Return why nothing is balanced automatically now; empty when it is."""
    return switched_off() or ", ".join(map(str, Freeze.objects.in_force()))


def switched_off() -> str:
    """Return the option that switches automatic balancing off, whatever is frozen; empty for none."""
    if not conf.ADVANCED_DISPATCHING_ENABLED:
        return "DD_CLUSTER_CHECKS_ADVANCED_DISPATCHING_ENABLED is false"
    if not conf.REBALANCE_ENABLED:
        return "CLUSTERAGENT_REBALANCE_ENABLED is false"
    return ""


def _end(freezes: FreezeQuerySet, actor: str) -> int:
    ended: int = freezes.update(ended_at=Now(), ended_by=actor)
    return ended


def _change_map() -> None:
    """Take the lock under which a rebalance checks whether it may run, and raise the revision, so that it reads the map anew."""
    ClusterStore.objects.lock()
    ClusterStore.objects.update(revision=F("revision") + 1)
