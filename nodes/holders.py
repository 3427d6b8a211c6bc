"""Which address holds a node's name: the first that reports in it, until it is silent for the expiration timeout or says goodbye.
Where a second one is told of and not refused, it is the last that reports.

Addresses are those of connections, or what trusted proxies say of them. To refuse somebody a call waits for who holds the name. A
process remembers that of the names that it hears, so the first call of an address asks the database, and one each half of that
timeout. To tell of somebody nothing waits: a heartbeat carries its address, and its statement says if another holds the name.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from django.http import HttpRequest
from rest_framework.exceptions import PermissionDenied

from clusteragent.lib import clients, conf, database
from clusteragent.lib.database.batching import Batcher
from nodes.models import Heartbeat, NodeEvent
from nodes.models.heartbeats import Claim, Held

_NOBODY = Held(None, None)
# The most names that a process remembers.
_MOST = 100_000


class _Held(NamedTuple):
    """What said from where a name's holder reports, and when the database was asked for that last, by the monotonic clock."""

    told: tuple[str, str]
    settled_at: float


class Holders:
    """Lets only the address that holds a node's name call in it, where CLUSTERAGENT_ONE_ADDRESS is refuse."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._batches: Batcher[Claim, str | None] = Batcher(settle)

    def require(self, request: HttpRequest, name: str, *, is_report: bool = False) -> bool:
        """Return if the call comes from the address that holds the name, or nobody holds it; a report takes it then.

        Returns whether that is settled: it is not before the name's node is known. Raises PermissionDenied or Away.
        """
        claim = self._claim(request, name, is_report)
        return claim is None or self._judge(request, claim, database.ask(lambda: settle([claim]))[0])

    async def require_promptly(self, request: HttpRequest, name: str, *, is_report: bool = False) -> bool:
        """The same, on the event loop."""
        claim = self._claim(request, name, is_report)
        return claim is None or self._judge(request, claim, await self._batches.ask(claim))

    def _claim(self, request: HttpRequest, name: str, is_report: bool) -> Claim | None:
        """What must be asked; None if nothing must."""
        if conf.ONE_ADDRESS != "refuse":
            return None
        held, now = self._held.get(name), time.monotonic()
        # Somebody else may hold it since a goodbye that another process heard, and who was refused is not known here.
        lately = conf.NODE_EXPIRATION_TIMEOUT.total_seconds() / 2
        if held and held.told == _told(request) and now - held.settled_at < lately:
            return None
        address = clients.address(request.META)
        return Claim(name, str(address), is_report) if address else None

    def forget(self, name: str) -> None:
        """Ask the database with the next call in this name: its node has said goodbye."""
        self._held.pop(name, None)

    def _judge(self, request: HttpRequest, claim: Claim, holder: str | None) -> bool:
        if holder == claim.address:
            self._note_heard(request, claim.name, claim.is_report)
        elif holder is not None:
            self.forget(claim.name)
            raise PermissionDenied(f"{claim.name} reports from another address")
        return holder is not None

    def _note_heard(self, request: HttpRequest, name: str, is_report: bool) -> None:
        # Only a report makes a node heard.
        if is_report:
            if len(self._held) >= _MOST:
                self._held.clear()
            self._held[name] = _Held(_told(request), time.monotonic())


def _told(request: HttpRequest) -> tuple[str, str]:
    return request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", "")


def settle(claims: Sequence[Claim]) -> list[str | None]:
    """Give names that nobody holds to who reports in them, and say who holds each; None while nobody does, or that is not known.

    Of several claims of a name the first report counts. Notes those that another address holds.
    """
    in_turn = sorted(claims, key=lambda claim: not claim.is_report)
    wanted = {claim.name: claim for claim in reversed(in_turn)}
    held = Heartbeat.objects.hold(list(wanted.values()))
    for claim in claims:
        address, _ = held.get(claim.name, _NOBODY)
        if address and address != claim.address:
            NodeEvent.objects.note_addresses(claim.name, {claim.address, address})
    return [held.get(claim.name, _NOBODY).address for claim in claims]


def told_peer(request: HttpRequest) -> str | None:
    """The address that a report comes from, where a second one is told of; None elsewhere."""
    if conf.ONE_ADDRESS != "tell":
        return None
    address = clients.address(request.META)
    return str(address) if address else None


def hand_over(claims: Sequence[Claim]) -> None:
    """Give names to who reports in them now. Notes whom a name was taken from a moment ago and who comes back: both are heard.

    A node that moved has no rival, since nobody comes back.
    """
    held = Heartbeat.objects.hold(claims, takes_over=True)
    for claim in claims:
        if rival := held.get(claim.name, _NOBODY).rival:
            NodeEvent.objects.note_addresses(claim.name, {claim.address, rival})


HOLDERS = Holders()
