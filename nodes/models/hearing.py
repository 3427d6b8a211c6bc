"""Whether silence counts: who is silent, whether we could hear, and the brake."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from django.db import models
from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called

log = structlog.get_logger()

# Passes run each second. When none ended for so long, the leader is away or stuck: for pages, metrics and the webhook alike.
STALE_PASS = timedelta(seconds=10)

_JUDGED = ("hearing_since", "braked_since", "late_since")


class Silence(NamedTuple):
    """How many nodes are known, how many of them silent, and how many appeared since the first of those fell silent.

    farewells: the same of those that said goodbye within a timeout: all nodes, those, and newcomers since the first of them.
    """

    known: int
    silent: int
    newcomers: int
    farewells: tuple[int, int, int] = (0, 0, 0)

    def alarming(self) -> bool:
        """Whether too many nodes are silent, or said goodbye, at once to believe it."""
        return too_many(self.known, self.silent, self.newcomers) or too_many(*self.farewells)


def is_stale(hearing: Any) -> bool:
    """Whether the last pass of a hearing that was read with `now` ended too long ago."""
    return hearing.last_pass is None or hearing.now - hearing.last_pass > STALE_PASS


def too_many(known: int, missing: int, newcomers: int = 0) -> bool:
    """More than the brake's fraction and number of nodes are missing, beside those that newcomers replace one for one."""
    if not (conf.BRAKE_FRACTION and conf.BRAKE_NODES):
        return False
    missing -= newcomers
    return missing >= conf.BRAKE_NODES and missing > known * conf.BRAKE_FRACTION


class HearingManager(models.Manager["nodestore.Hearing"]):
    def deaf_lately(self, share: float = 1) -> models.QuerySet[nodestore.Hearing]:
        """The row, if we began to hear less than this share of the timeout ago: a silence as long says nothing yet."""
        return self.filter(hearing_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT * share))

    def listen(self) -> Silence:
        """Decide whether silence counts (deaf, braked or hearing), and write it down. Returns who is silent."""
        nodestore.Heartbeat.objects.pull_back()
        hearing = self.annotate(now=Now()).get()
        before = {name: getattr(hearing, name) for name in _JUDGED}
        is_forgetful = not nodestore.Memory.objects.exists()
        silence = self.silence()
        hearing.judge(hearing.now, silence, forgetful=is_forgetful)
        after = {name: getattr(hearing, name) for name in _JUDGED}
        # Compare and swap: a pass that was stopped between the two must not undo what a later one decided.
        if after != before and self.filter(**before).update(**after):
            if any(after[name] != before[name] for name in ("hearing_since", "braked_since")):
                _say(before["braked_since"], hearing)
            if is_forgetful:
                nodestore.Memory.objects.get_or_create(pk=1)
        return silence

    def note_pass(self) -> None:
        """A pass is complete."""
        self.update(last_pass=Now())

    def warmed_up(self, *, sources_read: bool) -> bool:
        """Whether work may be given out. A new database waits from the first report and the first reading of its sources."""
        hearing = self.annotate(now=Now()).get()
        if hearing.warmup and not hearing.warm_until and sources_read and nodestore.Node.objects.exists():
            hearing.warm_until = hearing.now + conf.WARMUP_DURATION
            hearing.save(update_fields=["warm_until"])
        return not hearing.warmup or (hearing.warm_until is not None and hearing.warm_until <= hearing.now)

    def silence(self) -> Silence:
        """Count who is silent, by the database's clock; those that said goodbye are counted for themselves."""
        silent = Q(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
        counts = nodestore.Node.objects.expected().aggregate(
            known=Count("pk"), silent=Count("pk", filter=silent), since=Min("heartbeat__seen_at", filter=silent)
        )
        fresh = nodestore.Node.objects.expected().exclude(silent)

        def newcomers(since: datetime | None) -> int:
            return fresh.filter(first_seen__gt=since).count() if since else 0

        gone, first = nodestore.Node.objects.farewells(conf.NODE_EXPIRATION_TIMEOUT)
        farewells = (counts["known"] + gone, gone, newcomers(first)) if gone else (0, 0, 0)
        return Silence(counts["known"], counts["silent"], newcomers(counts["since"]), farewells)


def _say(braked_before: datetime | None, hearing: nodestore.Hearing) -> None:
    if not hearing.braked_since:
        log.warning("brake_off", hearing_since=hearing.hearing_since)
    elif hearing.braked_since == hearing.hearing_since:
        # Said at every pass for as long as nobody is heard.
        log.warning("deaf", hearing_since=hearing.hearing_since)
    elif not braked_before:
        log.warning("brake_on", braked_since=hearing.braked_since)
