"""The peer: a Datadog Cluster Agent by its rules of 2026, for the same simulated node agents: what would it have done?

One leader's memory: expiry by ticks, warm-up, random placement, rebalances by utilization, the loss of that leader. Moves tell
both nodes at once. It knows no goodbyes, hand-overs or drains. `simulation/peerserver.py` serves it.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from simulation.runners import WORKERS

# Seconds: expiry, the tick that expires and places what dangles, and the pause before a new leader places anything.
EXPIRATION, TICK, WARMUP = 30, 15, 30
# Seconds until another one leads: the lease of a leader that crashed must end, and the next look comes a second later.
CRASH, HANDED_ON = 61, 1
# How much a config sticks to its runner, in its workers, and the bounds of that.
STICKINESS, MOST_STICKY, LEAST_STICKY = 4.0, 1.0, 0.05


class NotNowError(Exception):
    """There is no leader (503), or the leader does not know the node (500)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Known:
    """A node as the leader knows it: when it was heard, in whole seconds, its configs, and the version of these."""

    heard: int = 0
    last_change: int = 0
    held: set[int] = field(default_factory=set)


class Peer:
    """The rules, by a clock in seconds. `work` does what is due. needs: {config: how many workers it keeps busy}."""

    _is_active: bool

    def __init__(
        self,
        needs: Mapping[int, float],
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        warmup: float = WARMUP,
    ) -> None:
        self._needs, self._clock, self._warmup = needs, clock, warmup
        self._dice = random.Random(seed)  # noqa: S311
        self._begin(clock())

    def lose_leader(self, absence: float = CRASH) -> None:
        """The leader is gone with all that it knew; another one begins after so many seconds."""
        self._begin(self._clock() + absence)

    def report(self, name: str, last_change: int) -> bool:
        """Note that a node is heard; whether its configs are current. Raises NotNowError."""
        self._require_leader()
        node = self._nodes.setdefault(name, Known())
        node.heard = int(self._clock())
        return last_change in (-1, node.last_change) or not self._is_active

    def configs(self, name: str) -> tuple[int, set[int]]:
        """The version and the configs of a node. Raises NotNowError."""
        self._require_leader()
        if name not in self._nodes:
            raise NotNowError(500, f"node {name} is unknown")
        return self._nodes[name].last_change, set(self._nodes[name].held)

    def work(self) -> None:
        """End the warm-up when it is over: place everything. Then tick: expire nodes, and place what dangles."""
        now = self._clock()
        if not self._is_active and now >= self._leads_at + self._warmup:
            self._is_active, self._ticks_at = True, now + TICK
            self._place(self._needs)
        if self._is_active and now >= self._ticks_at:
            self._ticks_at += TICK
            for name in [name for name, node in self._nodes.items() if node.heard < int(now) - EXPIRATION]:
                self._dangling |= self._nodes.pop(name).held
            self._place(self._dangling)

    def rebalance(self) -> int:
        """Rebalance as by force, and return how many configs moved. Every runner tells what its checks cost."""
        owners = {config: name for name, node in self._nodes.items() for config in node.held}
        needs = {config: self._needs[config] for config in owners}
        moved = {
            config: name for config, name in proposal(needs, owners, self._nodes).items() if name != owners[config]
        }
        for config, name in moved.items():
            self._nodes[owners[config]].held.remove(config)
            self._nodes[name].held.add(config)
            self._stamp(owners[config], name)
        return len(moved)

    def _begin(self, at: float) -> None:
        self._leads_at, self._ticks_at = at, inf
        self._is_active = False
        self._nodes: dict[str, Known] = {}
        self._dangling: set[int] = set()

    def _require_leader(self) -> None:
        if self._clock() < self._leads_at:
            raise NotNowError(503, "Startup in progress")

    def _place(self, configs: Iterable[int]) -> None:
        names = list(self._nodes)
        placed = sorted(configs) if names else []
        for config in placed:
            name = self._dice.choice(names)
            self._nodes[name].held.add(config)
            self._stamp(name)
        self._dangling = {*self._dangling, *configs}.difference(placed)

    def _stamp(self, *names: str) -> None:
        for name in names:
            self._nodes[name].last_change = max(int(self._clock() * 1e9), self._nodes[name].last_change + 1)


def proposal(
    needs: Mapping[int, float], owners: Mapping[int, str], names: Iterable[str], workers: int = WORKERS
) -> dict[int, str]:
    """{config: runner}: what costs nothing stays, the others go, the heaviest first, to the least busy, but they stick."""
    used, counts = dict.fromkeys(names, 0.0), Counter[str]()
    found: dict[int, str] = {}

    def busyness(name: str, config: int) -> tuple[float, bool, int]:
        bonus = max(min(needs[config] * STICKINESS, MOST_STICKY), LEAST_STICKY) if owners[config] == name else 0.0
        return used[name] / workers - bonus, owners[config] != name, counts[name]

    for config in sorted(owners, key=lambda config: (bool(needs[config]), -needs[config], config)):
        runner = min(used, key=lambda name: busyness(name, config)) if needs[config] else owners[config]
        found[config] = runner
        used[runner] += needs[config]
        counts[runner] += 1
    return found
