"""Faulty configs: those that don't run where they are, and those that kill the nodes that have them.

A config that does not run moves to another node once a day. A config that kills is isolated on one node until someone
releases it.
"""

from datetime import timedelta
from typing import Any

import structlog
from django.db.models import Count, F
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher.transaction import SnapshotCache, move_in_chunks, relocate
from checks.models import Assignment, Config, Move
from checks.models.map import Suspect
from checks.models.orders import Isolation, Pin
from checks.models.titles import called
from checks.models.troubles import Trouble, TroubleQuerySet
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.shortids import short_id
from nodes.models import NodeEvent

# A config moves only after it was found not to run for so long: an agent that has just restarted reports no stats of
# checks that it is about to run.
PERSISTENT = timedelta(seconds=90)
# The time between two tries of one config on other nodes, and how many configs are moved at once.
TRIED_AGAIN_AFTER, AT_ONCE = timedelta(days=1), 50
# A config is suspect when so many nodes died within SPAN, each within SOON after it got the config.
VICTIMS, SPAN, SOON = 3, timedelta(hours=1), timedelta(minutes=10)
# If more configs than these are suspect, the cause is something else.
FEW = 3

log = structlog.get_logger()


def try_elsewhere(*, term: int | None = None) -> list[Move]:
    """Note each config that does not run where it is, and move it to another node, once a day. Returns the moves."""
    stuck = Trouble.objects.current().filter(kind=Trouble.Kind.NOT_RUNNING, since__lt=ago(PERSISTENT))
    _note_events(stuck)
    if stuck.count() > max(FEW, Assignment.objects.count() / 2):
        log.warning("too_many_not_running", configs=stuck.count())
        return []
    tried = Move.objects.filter(reason=Move.Reason.NOT_RUNNING, time__gte=ago(TRIED_AGAIN_AFTER))
    bound: tuple[Any, ...] = (Pin.objects.in_force(), Isolation.objects.all(), tried)
    for rows in bound:
        stuck = stuck.exclude(config_id__in=rows.filter(config_id__isnull=False).values("config_id"))
    movable = stuck.exclude(config__name__in=conf.EXCLUDE_CHECKS_FROM_DISPATCHING)
    ids = list(movable.order_by("since", "config_id").values_list("config_id", flat=True)[:AT_ONCE])
    reason = Move.Reason.NOT_RUNNING
    return move_in_chunks(
        ids, lambda entries, now: relocate(entries, now, reason, elsewhere=True), SnapshotCache(), term
    )


def quarantine(*, term: int | None = None) -> list[Move]:
    """Isolate the configs that killed nodes, and return the moves. If more than FEW are suspect, it isolates none."""
    found = Move.objects.suspects(VICTIMS, SPAN, SOON)
    deaths = NodeEvent.objects.outages(SPAN).aggregate(nodes=Count("node_name", distinct=True))["nodes"]
    most = max((len(suspect.nodes) for suspect in found), default=0)
    # Those with the most dead nodes, if these are at least half of all dead nodes.
    suspects = [suspect for suspect in found if len(suspect.nodes) == most and 2 * most >= deaths]
    if len(suspects) > FEW:
        log.warning("too_many_suspects", configs=len(suspects), nodes=suspects[0].nodes)
        return []
    return [move for suspect in suspects for move in _quarantine(suspect, term)]


def _note_events(stuck: TroubleQuerySet) -> None:
    """Write an event of its node for each config that does not run, once."""
    columns = ("config__name", "config__title", "config__digest", "config__assignment__node__name", "since")
    rows = list(stuck.values_list(*columns))
    if not rows:
        return
    # In bulk: when runners report wrong stats, there are very many at once.
    kind = NodeEvent.Kind.NOT_RUNNING
    noted = NodeEvent.objects.filter(kind=kind, time__gte=min(since for *_, since in rows))
    last = {
        (node, cause): time for node, cause, time in noted.order_by("time").values_list("node_name", "cause", "time")
    }
    events = []
    for check, title, digest, node, since in rows:
        cause = f"{called(title, check, digest)} {digest}"
        if (node, cause) not in last or last[node, cause] < since:
            events.append(NodeEvent(node_name=node, kind=kind, cause=cause, time=Now()))
            log.warning("config_not_running", check=check, config=short_id(digest), node=node)
    NodeEvent.objects.bulk_create(events, batch_size=1000)


def _quarantine(suspect: Suspect, term: int | None) -> list[Move]:
    config: Any = Config.objects.annotate(node=F("assignment__node__name")).filter(pk=suspect.config_id).first()
    if config is None:
        return []
    died = f"{', '.join(suspect.nodes)} died soon after they got it"
    moves: list[Move] = []
    try:
        moves = dispatcher.isolate([config.pk], note=died, term=term, reason=Isolation.Reason.QUARANTINED)
    except (dispatcher.NotAccepting, dispatcher.NotDispatchable, dispatcher.StalePlan) as error:
        # One that goes stale after its first chunk is isolated, and passes move the rest of its company.
        if not Isolation.objects.filter(config=config.pk).exists():
            log.warning("config_not_quarantined", check=config.name, config=short_id(config.digest), error=str(error))
            return []
    NodeEvent.objects.note([config.node], NodeEvent.Kind.QUARANTINED, f"{config} {config.digest}")
    log.warning(
        "config_quarantined", check=config.name, config=short_id(config.digest), node=config.node, died=suspect.nodes
    )
    return moves
