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
    if is_stale(hearing):
        began = [sessions.oldest(), _leader_began(hearing)]
        young = [time for time in began if time and hearing.now - time < UNTIL_FIRST_PASS]
        return min(young, default=None)
    began_to_lead = datetime.fromtimestamp(_term() / 10**9, UTC)
    is_new = hearing.now - began_to_lead < conf.NODE_EXPIRATION_TIMEOUT
    return began_to_lead if is_new and is_deaf(hearing) else None


def is_deaf(hearing: Any) -> bool:
    """Whether it is not the nodes that are silent, by the last pass: it could hear none."""
    return hearing.braked_since is not None and hearing.braked_since == hearing.hearing_since


def _leader_began(hearing: Any) -> datetime | None:
    """When the present leader began, if none of its passes has ended; else None."""
    began = datetime.fromtimestamp(_term() / 10**9, UTC)
    return began if hearing.last_pass is None or hearing.last_pass < began else None


def _term() -> int:
    """The term, which is the time of its beginning in nanoseconds since 1970, or a little more."""
    return int(ClusterStore.objects.values_list("term", flat=True).get())
