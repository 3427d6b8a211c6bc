"""Since when passes can hear the node agents. What they conclude from it is decided in `nodes/hearing.py`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago

# Passes run each second. When none ended for so long, the leader is away or stuck: for pages, metrics and the webhook alike.
STALE_PASS = timedelta(seconds=10)
# The interval of reports of a Datadog Agent, and by how much a report may be late before its node is suspected.
POLL, LATE = timedelta(seconds=10), timedelta(seconds=2)
OVERDUE = POLL + LATE


def is_stale(hearing: Any) -> bool:
    """Whether the last pass of a hearing that was read with `now` ended too long ago."""
    return hearing.last_pass is None or hearing.now - hearing.last_pass > STALE_PASS


class HearingManager(models.Manager["Hearing"]):
    def deaf_lately(self, share: float = 1) -> models.QuerySet[Hearing]:
        """The row, if we began to hear less than this share of the timeout ago: a silence as long says nothing yet."""
        return self.filter(hearing_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT * share))

    def disturbed(self) -> models.QuerySet[Hearing]:
        """The row, if not even a proof of death counts: in the warm-up, under the brake, and just after we were deaf."""
        deaf, braked = Q(hearing_since__gte=ago(OVERDUE)), Q(braked_since__isnull=False)
        return self.filter(deaf | braked | Q(warmup=True))

    def note_pass(self) -> None:
        """Note that a pass is complete."""
        self.update(last_pass=Now())


class Hearing(models.Model):
    """One row: since when passes can hear the node agents, and whether silence counts. Written by passes alone."""

    last_pass = models.DateTimeField(null=True)
    hearing_since = models.DateTimeField(null=True)
    braked_since = models.DateTimeField(null=True)
    # The first of a row of late passes; empty again when passes were on time for a full timeout.
    late_since = models.DateTimeField(null=True)
    # A new database places nothing before this time, which is unknown until a node reported and the sources were read.
    warm_until = models.DateTimeField(null=True)
    warmup = models.BooleanField(db_default=True)
    # New names of nodes that were refused since ever, and when the last ones were. Written by whoever refuses them.
    names_refused = models.BigIntegerField(db_default=0)
    names_refused_at = models.DateTimeField(null=True)

    objects = HearingManager()

    class Meta:
        constraints = [models.CheckConstraint(name="hearing_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"hearing since {self.hearing_since}"


class Memory(models.Model):
    """One row of a table that does not survive a crash: while the row is there, no heartbeat that was answered is lost.

    Heartbeats don't wait for the disk, so a crash loses those of its last moments, and a standby that takes over may lack
    more. The table is unlogged: PostgreSQL empties it when it recovers from a crash, and on a standby it is empty.
    """

    def __str__(self) -> str:
        return "memory"
