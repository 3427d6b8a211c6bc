"""Proof of death: the stats port of a node that may be dead refuses connections.

A refusal is the answer of a kernel that lives: nobody listens any more. Everything else (a time-out, a reset, an unreachable
host) may be the network's. ADR 17 says what else must hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import NamedTuple

import structlog
from django.db.models import Count

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.hearing import too_many
from nodes.models import Heartbeat, Node, Probe
from nodes.models.hearing import OVERDUE
from nodes.models.probes import Suspect
from nodes.statsclient import AT_ONCE, Unreadable, allowed

# Seconds for one connection, for those of all suspects, and for those of the others that speak against a proof.
CONNECT = 1.0
SUSPECTS, OTHERS = 3.0, 2.0
# How many suspects one call asks, and how many others.
MOST, MOST_OTHERS = 10_000, 200

log = structlog.get_logger()


class Asked(NamedTuple):
    """How many suspects were asked, how many of them refused, and how many of those are proven dead."""

    asked: int
    refused: int
    proven: int


def wanted() -> bool:
    """Whether there are suspects whose ports should be asked now."""
    return conf.PROOF_OF_DEATH in ("all", "port") and Probe.objects.suspects().exists()


def ask_ports() -> Asked:
    """Ask the ports of suspects once, and store what they said. It takes up to five seconds: never call it in a transaction.

    A second refusal proves a death, unless so many other nodes refuse, too, that it is not the nodes, or so many nodes are
    overdue at once that the brake should judge them.
    """
    Probe.objects.void().delete()
    expected = Node.objects.expected()
    overdue = Heartbeat.objects.overdue().filter(node__in=expected).count()
    if conf.PROOF_OF_DEATH not in ("all", "port") or too_many(expected.count(), overdue):
        return Asked(0, 0, 0)
    rows = Probe.objects.suspects().values_list("pk", "seen_at", "client_ip", "probe__refused_at")[:MOST]
    suspects = [Suspect(pk, seen_at, address, bool(refused_at)) for pk, seen_at, address, refused_at in rows]
    unshared = _unshared({one.address for one in suspects})
    told = refusals(unshared, SUSPECTS)
    # Those for which no time was left are the first ones of the next call.
    asked = [one for one in suspects if one.address in told or one.address not in unshared]
    refused = {one.node_id for one in asked if told.get(one.address)}
    doubted = any(one.has_refused for one in asked if one.node_id in refused) and _others_refuse(len(refused))
    return Asked(len(asked), len(refused), Probe.objects.note(asked, refused, doubted=doubted))


def _unshared(addresses: Collection[str]) -> set[str]:
    """Those of these addresses that one known node alone names: behind others there may be anybody."""
    named = Heartbeat.objects.filter(client_ip__in=addresses).values_list("client_ip")
    return {address for address, number in named.annotate(Count("pk")) if number == 1}


def _others_refuse(suspects: int) -> bool:
    """Whether so many of the nodes that report in time refuse, too, that a refusal is no proof. That is logged."""
    others = Probe.objects.answering().filter(seen_at__gte=ago(OVERDUE), node__in=Node.objects.expected())
    rows = others.order_by("?").values_list("client_ip", flat=True)[:MOST_OTHERS]
    told = refusals({str(address) for address in rows}, OTHERS)
    refusing = sum(told.values())
    doubted = bool(refusing and conf.BRAKE_FRACTION and conf.BRAKE_NODES) and (
        refusing == len(told) or refusing >= max(conf.BRAKE_NODES, len(told) * conf.BRAKE_FRACTION)
    )
    if doubted:
        log.warning("proofs_doubted", suspects=suspects, others_asked=len(told), others_refuse=refusing)
    return doubted


def refusals(addresses: Collection[str], seconds: float) -> dict[str, bool]:
    """Connect to the stats port at each address: {address: whether it refused}, without those for which no time was left."""
    return asyncio.run(_refusals(addresses, time.monotonic() + seconds))


async def _refusals(addresses: Collection[str], ends: float) -> dict[str, bool]:
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(address: str) -> bool | None:
        async with room:
            return await _refuses(address) if time.monotonic() < ends - CONNECT else None

    told = await asyncio.gather(*map(ask, addresses))
    return {address: refused for address, refused in zip(addresses, told, strict=True) if refused is not None}


async def _refuses(address: str) -> bool:
    """Whether the kernel at the address says that nobody listens. No time-out, reset or other error says it."""
    try:
        async with asyncio.timeout(CONNECT):
            _, writer = await asyncio.open_connection(str(allowed(address)), conf.CLC_RUNNERS_PORT)
    except ConnectionRefusedError:
        return True
    except (OSError, Unreadable):
        return False
    writer.close()
    return False
