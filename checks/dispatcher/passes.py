"""The background pass of the leader."""

from typing import NamedTuple

import structlog

from checks.dispatcher.placing import expire_nodes, redispatch
from checks.dispatcher.upkeep import empty_leaving_nodes, reconcile, resume_due
from checks.models import ClusterStore, Config
from checks.models.map import NotLeader
from nodes.goodbyes import void_goodbyes
from nodes.hearing import listen, note_silent
from nodes.models import Hearing

log = structlog.get_logger()


class Pass(NamedTuple):
    """How many configs a background pass took from expired nodes, and how many it gave to nodes."""

    expired: int
    placed: int


def run_pass(term: int) -> Pass:
    """Run one background pass of the leader. Raises NotLeader when `term` is over.

    It notes who is heard, expires nodes, moves what they left and what leaving nodes have, ends pauses, moves misplaced configs,
    flags configs that wait for long, and notes its time.
    """
    if not ClusterStore.objects.filter(term=term).exists():
        raise NotLeader(f"term {term} is over")
    silence = listen()
    void_goodbyes()
    for name in note_silent() if silence.silent else ():
        log.warning("node_silent", node=name, term=term)
    expired = expire_nodes(term=term)
    placed = [*empty_leaving_nodes(term=term), *resume_due(term=term), *redispatch(term=term)]
    if misplaced := reconcile(term=term):
        log.info("misplaced_moved", moves=len(misplaced), term=term)
    for name in Config.objects.flag_unscheduled():
        log.warning("config_unscheduled", check=name, term=term)
    Hearing.objects.note_pass()
    return Pass(len(expired), len(placed) + len(misplaced))
