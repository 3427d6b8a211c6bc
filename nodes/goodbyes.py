"""Goodbyes of nodes: what they say when they leave or restart, and when that is not believed."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Node, NodeEvent, UnknownNode
from nodes.models.nodes import READMITTED, RESTART_TIME
from nodes.signals import node_arrived, node_changed

log = structlog.get_logger()

# After a void goodbye a node is not believed for BROKEN_WORD, nor after GOODBYES of them in GOODBYES_SPAN.
BROKEN_WORD = timedelta(hours=1)
GOODBYES, GOODBYES_SPAN = 3, timedelta(minutes=10)


@transaction.atomic
def note_goodbye(name: str, kind: str) -> None:
    """Note that a node says that it is `leaving` or `restarting`. `leaving` is final: a later `restarting` is ignored.

    Anybody with the token can say it in any node's name. So it is ignored after a void one, when it comes again and again,
    and when a silent node says that it restarts, which would keep a dead node. Raises UnknownNode.
    """
    node = Node.objects.known().filter(name=name)
    if not node.exists():
        raise UnknownNode(f"node {name} is unknown")
    kinds, said = NodeEvent.Kind, NodeEvent.objects.filter(node_name=name)
    is_broken = said.filter(kind=kinds.GOODBYE_VOID, time__gte=ago(BROKEN_WORD)).exists()
    lately = said.filter(kind__in=(kinds.LEAVING, kinds.RESTARTING), time__gte=ago(GOODBYES_SPAN))
    if is_broken or lately.count() >= GOODBYES:
        reason = "the last one was void" if is_broken else "it comes again and again"
        log.info("goodbye_ignored", node=name, said=kind, reason=reason)
        return
    # One of an address that has taken the name since the last goodbye is another one.
    taken = F("heartbeat__peer_since")
    staying = node.filter(Q(leaving=False) | Q(left_at__lt=taken))
    if kind == kinds.LEAVING:
        changed = staying.update(leaving=True, left_at=Now(), kept_until=None)
    else:
        heard = staying.filter(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
        again = Q(kept_until=None) | Q(kept_until__lt=Now()) | Q(kept_until__lt=taken + RESTART_TIME)
        changed = heard.filter(again).update(kept_until=Now() + RESTART_TIME)
    if changed:
        NodeEvent.objects.note([name], kind)
        node_changed.send(sender=Node, names=[name])


@transaction.atomic
def void_goodbyes() -> list[str]:
    """Cancel the goodbyes of nodes that still report long after them. Returns the nodes' names.

    A node without a config can't show that it started again, so the word that it restarts is not canceled for it.
    """
    Node.objects.filter(leaving=True, left_at=None).update(left_at=Now())  # said to a replica of an older release
    stays = Q(leaving=False, kept_until__lt=F("heartbeat__seen_at"), heartbeat__acknowledged__gt=0)
    if conf.GOODBYE_HOLDS:
        stays |= Q(leaving=True, left_at__lt=F("heartbeat__seen_at") - conf.GOODBYE_HOLDS)
    said = Node.objects.filter(Q(leaving=True) | Q(kept_until__isnull=False))
    # In the order of the key, as every change of the map locks them.
    staying = said.filter(stays).order_by("pk").select_for_update(no_key=True, of=("self",))
    found = dict(staying.values_list("pk", "name"))
    if found:
        Node.objects.filter(pk__in=found).update(**READMITTED)
        NodeEvent.objects.note(found.values(), NodeEvent.Kind.GOODBYE_VOID, "it still reports")
        log.warning("goodbye_void", nodes=list(found.values())[:10], number=len(found))
        node_arrived.send(sender=Node, names=list(found.values()))
    return list(found.values())
