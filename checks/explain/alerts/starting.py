"""Whether the program has just started: then what it has not done or heard yet says nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from checks.models import ClusterStore
from clusteragent.lib import conf
from clusteragent.lib.database import sessions
from nodes.models.hearing import is_stale

# From the first session of a process to the end of the first pass.
UNTIL_FIRST_PASS = timedelta(seconds=15)


def since(hearing: Any) -> datetime | None:
    """Return since when the program has been starting: no pass has ended yet, or the nodes had no time to report since. None once
    it runs. hearing: the row, annotated with `now`.
    """
    # The store is read only where something seems to be wrong: every page asks this.
    if is_stale(hearing):
        began, led = sessions.oldest(), _leader_began()
        without_pass = led if hearing.last_pass is None or hearing.last_pass < led else None
        young = [time for time in (began, without_pass) if time and hearing.now - time < UNTIL_FIRST_PASS]
        return min(young, default=None)
    if not is_deaf(hearing):
        return None
    led = _leader_began()
    return led if hearing.now - led < conf.NODE_EXPIRATION_TIMEOUT else None


def is_deaf(hearing: Any) -> bool:
    """Whether it is not the nodes that are silent, by the last pass: it could hear none."""
    return hearing.braked_since is not None and hearing.braked_since == hearing.hearing_since


def _leader_began() -> datetime:
    """When the present leader began: its term is that time in nanoseconds since 1970, or a little more."""
    term: int = ClusterStore.objects.values_list("term", flat=True).get()
    return datetime.fromtimestamp(term / 10**9, UTC)
