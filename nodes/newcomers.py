"""A limit for new names of nodes: whoever has the token can make up any number of them."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import structlog
from django.db.models import F
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Node

log = structlog.get_logger()

# New names that an hour may have, as a multiple of those of a minute.
AN_HOUR = 5
# Seconds for which a process uses a count, beside what it admits itself, and between two log lines about refusals.
_COUNT_HOLDS, _LOGGED_AGAIN_AFTER = 1.0, 10.0


class TooManyNames(Exception):
    """Too many new names of nodes were reported within a minute or an hour."""


class Newcomers:
    """Admits new names up to the limit, by a count that is up to a second old.

    Other processes admit names at the same time, so a second's worth more than the limit may register.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limit = self._room = 0
        self._counted = self._logged = float("-inf")
        self._unlogged = 0

    def admit(self, number: int) -> int:
        """How many of so many new names may register."""
        with self._lock:
            if self._limit != conf.NEW_NODES_A_MINUTE or time.monotonic() > self._counted + _COUNT_HOLDS:
                limit, seen = conf.NEW_NODES_A_MINUTE, Node.objects.order_by()
                spans = {timedelta(minutes=1): limit, timedelta(hours=1): AN_HOUR * limit}
                # Counted no further than the limit: beyond it the number says nothing.
                counts = {span: seen.filter(first_seen__gte=ago(span))[:most].count() for span, most in spans.items()}
                self._room = min(most - counts[span] for span, most in spans.items())
                self._limit, self._counted = limit, time.monotonic()
            admitted = max(0, min(number, self._room))
            self._room -= admitted
            self._unlogged += number - admitted
            # Refusals are logged and stored together every few seconds.
            if admitted < number and time.monotonic() > self._logged + _LOGGED_AGAIN_AFTER:
                log.warning("new_nodes_refused", number=self._unlogged, limit=conf.NEW_NODES_A_MINUTE)
                refused = F("names_refused") + self._unlogged
                Hearing.objects.update(names_refused=refused, names_refused_at=Now())
                self._unlogged, self._logged = 0, time.monotonic()
            return admitted


newcomers = Newcomers()
