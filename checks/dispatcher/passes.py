"""The background pass of the leader."""

from typing import NamedTuple

import structlog

from checks.dispatcher.placing import expire_nodes, redispatch
from checks.dispatcher.upkeep import apply_declarations, drain, empty_leaving_nodes, resume_due
from checks.models import ClusterStore, Config
from checks.models.map import NotLeader
from nodes.goodbyes import void_goodbyes
from nodes.hearing import listen, note_silent
from nodes.models import Hearing

log = structlog.get_logger()


class Pass(NamedTuple):
    """What a background pass moved."""

    expired: int
    placed: int


def run_pass(term: int) -> Pass:
    """One background pass of the leader: hear, expire, take away, re-dispatch, drain, flag, note the time. Raises NotLeader."""
    if not ClusterStore.objects.filter(term=term).exists():
        raise NotLeader(f"term {term} is over")
    silence = listen()
    void_goodbyes()
    for name in note_silent() if silence.silent else ():
        log.warning("node_silent", node=name, term=term)
    expired = expire_nodes(term=term)
    apply_declarations(term=term)
    placed = [*empty_leaving_nodes(term=term), *resume_due(term=term), *redispatch(term=term), *drain(term=term)]
    for name in Config.objects.flag_unscheduled():
        log.warning("config_unscheduled", check=name, term=term)
    Hearing.objects.note_pass()
    return Pass(len(expired), len(placed))
