"""What became of the checks and calls of simulated node agents: gaps, doubles, restarts, latencies.

Everything is in seconds, by this process's monotonic clock. A check is here what one config stands for, all its instances
together: known by the check's name and those of its instances, so that it stays itself when its bytes change, or by its
bytes where an instance has no name. Two configs of one name are taken for one check with two runners.
"""

import asyncio
import copy
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappushpop
from typing import Any, NoReturn

from simulation.agents import Observer, SimulatedNode
from simulation.client import CallError, Config, LostCallError, read_instance

# For so long after its link was mended, what becomes of a node's checks is put down to the cut.
AFTERMATH = 60
# How many checks and spells a report names.
FEW = 10


class Durations:
    """Any number of lengths in little memory, exact to 0.1 ms."""

    def __init__(self) -> None:
        self._tenths: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one length."""
        self._tenths[round(seconds * 10_000)] += 1

    def quantile(self, share: float) -> float:
        """The least length that `share` of all do not exceed; 0 when there is none."""
        rank, seen = math.ceil(share * self._tenths.total()), 0
        for tenths, count in sorted(self._tenths.items()):
            seen += count
            if seen >= rank:
                return tenths / 10_000
        return 0

    def report(self) -> dict[str, Any]:
        """Number, total, mean, p50, p99 and longest; all 0 when there is none."""
        number = self._tenths.total()
        total = sum(tenths * count for tenths, count in self._tenths.items()) / 10_000
        quantiles = {"p50": self.quantile(0.5), "p99": self.quantile(0.99), "longest": self.quantile(1)}
        return {"number": number, "total": total, "mean": round(total / number, 4) if number else 0} | quantiles


class Spells:
    """Times during which something was so with a check; those that were not disturbed also on their own."""

    def __init__(self) -> None:
        self._all, self._undisturbed = Durations(), Durations()
        self._worst: list[tuple[float, float, str, bool, tuple[str, ...]]] = [(0, 0, "", False, ())] * FEW

    def add(self, check: str, began: float, ended: float, nodes: tuple[str, ...], *, is_disturbed: bool) -> None:
        """Count a spell of `check`, by the account's clock, with the nodes that had to do with it."""
        seconds = ended - began
        self._all.add(seconds)
        if not is_disturbed:
            self._undisturbed.add(seconds)
        heappushpop(self._worst, (round(seconds, 4), round(began, 3), check, is_disturbed, nodes))

    def report(self) -> dict[str, Any]:
        """The lengths of all spells, those of the undisturbed, and the longest spells with check and nodes."""
        keys = ("seconds", "began", "check", "is_disturbed", "nodes")
        worst = [dict(zip(keys, spell, strict=True)) for spell in sorted(self._worst, reverse=True) if spell[0]]
        return self._all.report() | {"undisturbed": self._undisturbed.report(), "worst": worst}


@dataclass(slots=True)
class Calls:
    """The calls to one route; the lost ones the simulation itself kept from the server.

    Latencies are those of answered calls: from asking for a connection to the last byte, without nodes that lag.
    """

    sent: int = 0
    failed: int = 0
    lost: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    answered: Durations = field(default_factory=Durations)

    def add(self, seconds: float, error: CallError | None, *, lags: bool) -> None:
        """Count a call that ended after `seconds`, by its error if it has one."""
        if isinstance(error, LostCallError):
            self.lost += 1
            return
        self.sent += 1
        if error:
            self.failed += 1
            self.reasons[error.reason] += 1
        elif not lags:
            self.answered.add(seconds)

    def report(self) -> dict[str, Any]:
        """The counts by outcome, and the latencies of answered calls."""
        counts = {"sent": self.sent, "failed": self.failed, "lost": self.lost, "reasons": dict(self.reasons)}
        return counts | {"answered": self.answered.report()}


@dataclass(slots=True)
class Check:
    """Who runs a check. `since` is when it lost its last runner or got a second one, and of whose making that was."""

    last: SimulatedNode
    digest: int
    runners: list[SimulatedNode]
    since: float = 0
    is_disturbed: bool = False


class Account(Observer):
    """Watches a simulation. A report can be taken at any time while it is on, and changes nothing.

    *Disturbed* is what the simulation did itself: the node that had the check vanished or said goodbye, or its link was
    cut or loses heartbeats. The rest is the server's doing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.own_delay = Durations()
        self._clock, self._began, self._began_at = clock, clock(), datetime.now(UTC)
        self._checks: dict[str, Check] = {}
        self._identities: dict[int, str] = {}
        self._gaps, self._doubles, self._takeovers = Spells(), Spells(), Durations()
        self._restarts = Counter(changed=0, again=0, moved=0, moved_undisturbed=0)
        self._calls = {"version": Calls(), "status": Calls(), "configs": Calls()}
        self._most: tuple[int, str, float] = (0, "", 0)
        self._events: list[dict[str, Any]] = []

    def called(self, node: SimulatedNode, route: str, seconds: float, error: CallError | None) -> None:
        self._calls[route].add(seconds, error, lags=node.link.lag > 0)

    def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
        now = self._now()
        for config in stopped:
            self._stop(self._checks[self._identity(config)], node, now)
        for config in started:
            self._start(self._identity(config), config.digest, node, now)
        self._most = max(self._most, (len(node.running), node.name, now), key=lambda most: most[0])

    def vanished(self, node: SimulatedNode) -> None:
        now = self._now()
        for running in node.running.values():
            self._stop(self._checks[self._identity(running.config)], node, now)

    def note(self, what: str) -> None:
        """An event of the simulation, for the report."""
        self._events.append({"at": round(self._now(), 3), "what": what})

    async def watch_clock(self, period: float = 0.1) -> NoReturn:
        """Measure how late this process itself is, which latencies include."""
        while True:
            due = self._clock() + period
            await asyncio.sleep(period)
            self.own_delay.add(max(self._clock() - due, 0))

    def report(self) -> dict[str, Any]:
        """The account so far, as docs/operations.md describes it; ready for JSON."""
        most, node, at = self._most
        return {
            "began_at": self._began_at.isoformat(),
            "seconds": round(self._now(), 3),
            "checks": self._census(),
            "without_runner": self._gaps.report(),
            "two_runners": self._doubles_so_far().report(),
            "restarts": dict(self._restarts),
            "takeovers": self._takeovers.report(),
            "most_on_one_node": {"checks": most, "node": node, "at": round(at, 3)},
            "heartbeats": self._calls["status"].report(),
            "fetches": self._calls["configs"].report(),
            "own_delay": self.own_delay.report(),
            "events": list(self._events),
        }

    def _now(self) -> float:
        return self._clock() - self._began

    def _identity(self, config: Config) -> str:
        if config.digest not in self._identities:
            names = [str(read_instance(instance).get("name") or "") for instance in config.instances]
            self._identities[config.digest] = f"{config.name}:{','.join(names) if all(names) else f'{config.digest:x}'}"
        return self._identities[config.digest]

    def _start(self, identity: str, digest: int, node: SimulatedNode, now: float) -> None:
        check = self._checks.get(identity)
        if not check:
            self._checks[identity] = Check(node, digest, [node])
            return
        # A node that changes the bytes of its check stops and starts it in one breath, which is no gap.
        if not check.runners and now > check.since:
            self._gaps.add(identity, check.since, now, (check.last.name, node.name), is_disturbed=check.is_disturbed)
        if len(check.runners) == 1:
            check.since, check.is_disturbed = now, any(map(_is_disturbed, (node, *check.runners)))
        if node is check.last:
            self._restarts["again" if digest == check.digest else "changed"] += 1
        else:
            self._restarts["moved"] += 1
            self._restarts["moved_undisturbed"] += not _is_disturbed(check.last)
            if not check.last.is_up:
                self._takeovers.add(self._clock() - check.last.heard)
        check.last, check.digest = node, digest
        check.runners.append(node)

    def _stop(self, check: Check, node: SimulatedNode, now: float) -> None:
        names = tuple(runner.name for runner in check.runners)
        check.runners.remove(node)
        if len(check.runners) == 1:
            identity = self._identities[check.digest]
            self._doubles.add(identity, check.since, now, names, is_disturbed=check.is_disturbed)
        elif not check.runners:
            check.since, check.is_disturbed = now, _is_disturbed(node)

    def _doubles_so_far(self) -> Spells:
        spells, now = copy.deepcopy(self._doubles), self._now()
        for identity, check in self._checks.items():
            if len(check.runners) > 1:
                names = tuple(runner.name for runner in check.runners)
                spells.add(identity, check.since, now, names, is_disturbed=check.is_disturbed)
        return spells

    def _census(self) -> dict[str, Any]:
        ended = {identity: check.since for identity, check in self._checks.items() if not check.runners}
        return {
            "seen": len(self._checks),
            "running": len(self._checks) - len(ended),
            "doubled": sum(len(check.runners) > 1 for check in self._checks.values()),
            "ended": len(ended),
            "ended_first": sorted(ended, key=ended.__getitem__)[:FEW],
            "ended_longest": round(self._now() - min(ended.values()), 3) if ended else 0,
        }


def _is_disturbed(node: SimulatedNode) -> bool:
    return not node.is_up or node.said_goodbye or node.link.is_disturbed(AFTERMATH)
