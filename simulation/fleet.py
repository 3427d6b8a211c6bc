"""Plans for many simulated node agents: when they die, are cut off or are replaced. Times are in seconds from the start."""

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from simulation.account import Account
from simulation.agents import SimulatedNode, Simulation
from simulation.client import Link, Server, Timing
from simulation.runners import RUNNER, number_at, numbered_address

# The share of the nodes that a surging rollout adds at once: a Kubernetes Deployment's default.
SURGE = 0.25
# Of a slow node, for each half of a request; both together stay within a real agent's 3 s.
LAG = 1.0
# Between two looks whether a surging rollout's new node is up.
PROBE = 0.05


class Kill(NamedTuple):
    """`nodes` nodes, drawn by the seed, vanish `after` seconds."""

    after: float
    nodes: int


class Cut(NamedTuple):
    """The first `nodes` nodes that are not cut off yet are cut off for `seconds`. They go on running what they have."""

    after: float
    nodes: int
    seconds: float


class Rollout(NamedTuple):
    """All nodes are replaced under new names, as pods are: one after the other, spread evenly `over` so many seconds.

    A new node is up after `delay` seconds, drawn from that range. Kinds: with `rolling` an old node goes when its successor
    is made; with `surge` when its successor is up, and a quarter of the nodes are being replaced at a time; with
    `recreate` all old nodes go at once; with `reboot` none is replaced: each goes, and comes back under its own name.
    """

    kind: str
    after: float
    over: float
    delay: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """How many nodes there are, and what happens to them.

    `loss` is the share of heartbeats that never arrive, `losses` that of single nodes, `slow` the number of nodes whose calls
    lag, `slowdowns` how many times as long the checks of single nodes take, `errors` with what checks fail whose IDs begin so.
    Without `seconds` it has no end.
    """

    nodes: int
    prefix: str = "node-"
    seed: int = 0
    kills: tuple[Kill, ...] = ()
    cuts: tuple[Cut, ...] = ()
    rollout: Rollout | None = None
    # What nodes say that a rollout replaces, and all at the end: leaving or restarting; empty: nothing.
    goodbye: str = ""
    loss: float = 0
    losses: tuple[tuple[str, float], ...] = ()
    slow: int = 0
    slowdowns: tuple[tuple[str, float], ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    seconds: float | None = None

    @property
    def most_nodes(self) -> int:
        """How many nodes there are at a time at most."""
        return self.nodes + (_surplus(self.nodes) if self.rollout and self.rollout.kind == "surge" else 0)


def _surplus(nodes: int) -> int:
    return math.ceil(SURGE * nodes)


class Fleet(Simulation):
    """The node agents of a plan, numbered in the order of their start. `with_addresses` each is a runner at its own address."""

    def __init__(
        self, server: Server, timing: Timing, plan: Plan, account: Account, *, with_addresses: bool = False
    ) -> None:
        super().__init__(server, timing, account)
        self.plan = plan
        self._account, self._with_addresses, self._interval = account, with_addresses, timing.poll
        # Two, for what gets lost depends on the moment, and who is killed on the seed alone.
        self._dice, self._dice_of_links = random.Random(plan.seed), random.Random(plan.seed)  # noqa: S311
        self._started = 0

    async def play(self) -> None:
        """Start the nodes and carry out the plan. Returns when its time is over; the nodes live on."""
        for _ in range(self.plan.nodes):
            self._start_next(self._dice.uniform(0, self._interval))
        with suppress(TimeoutError):
            async with asyncio.timeout(self.plan.seconds), asyncio.TaskGroup() as group:
                group.create_task(self._account.watch_clock())
                for kill in self.plan.kills:
                    group.create_task(self._kill(kill))
                for cut in self.plan.cuts:
                    group.create_task(self._cut(cut))
                if self.plan.rollout:
                    group.create_task(self._roll_out(self.plan.rollout))

    async def leave_all(self) -> None:
        """Every node says the plan's goodbye and vanishes."""
        await asyncio.gather(*(self.leave(name, self.plan.goodbye) for name in list(self.nodes)))

    def find(self, address: str) -> SimulatedNode | None:
        """The node at a loopback address; None when there is none, or it vanished."""
        return self.nodes.get(f"{self.plan.prefix}{number_at(address)}")

    def report(self) -> dict[str, Any]:
        """The account, with the plan's seed and how many nodes there are."""
        living = [node for node in self.nodes.values() if node.is_up]
        cut = sum(node.link.is_cut for node in living)
        nodes = {"started": self._started, "living": len(living), "cut_off": cut}
        return {"seed": self.plan.seed, "nodes": nodes} | self._account.report()

    def _start_next(self, delay: float) -> SimulatedNode:
        self._started += 1
        name = f"{self.plan.prefix}{self._started}"
        address = numbered_address(self._started) if self._with_addresses else ""
        loss = dict(self.plan.losses).get(name, self.plan.loss)
        link = Link(LAG if self._started <= self.plan.slow else 0, loss, self._dice_of_links)
        return self._start(name, delay, address, link)

    def _start(self, name: str, delay: float, address: str, link: Link) -> SimulatedNode:
        node_type, slowdown = RUNNER if self._with_addresses else 0, dict(self.plan.slowdowns).get(name, 1.0)
        return self.start(name, delay, node_type=node_type, real_ip=address, link=link, slowdown=slowdown)

    def _end(self, name: str) -> None:
        self._group.create_task(self._go(name))

    async def _go(self, name: str) -> None:
        # A plan may have killed it meanwhile.
        if name not in self.nodes:
            return
        if self.plan.goodbye:
            await self.leave(name, self.plan.goodbye)
        else:
            self.vanish(name)

    async def _reboot(self, name: str, delay: float) -> None:
        node = self.nodes.get(name)
        await self._go(name)
        await asyncio.sleep(delay)
        if node and name not in self.nodes:
            self._start(name, 0, node.real_ip, node.link)

    async def _kill(self, kill: Kill) -> None:
        await asyncio.sleep(kill.after)
        names = self._dice.sample(list(self.nodes), min(kill.nodes, len(self.nodes)))
        for name in names:
            self.vanish(name)
        self._account.note(f"{len(names)} nodes vanished")

    async def _cut(self, cut: Cut) -> None:
        await asyncio.sleep(cut.after)
        whole = (node for node in self.nodes.values() if not node.link.is_cut)
        nodes = list(itertools.islice(whole, cut.nodes))
        for node in nodes:
            node.link.cut()
        self._account.note(f"{len(nodes)} nodes cut off")
        await asyncio.sleep(cut.seconds)
        for node in nodes:
            node.link.mend()
        self._account.note(f"{len(nodes)} nodes reach the server again")

    async def _roll_out(self, rollout: Rollout) -> None:
        await asyncio.sleep(rollout.after)
        self._account.note(f"{rollout.kind} rollout begins")
        old = list(self.nodes)
        if rollout.kind == "surge":
            await self._surge(old, rollout)
        else:
            for name in old if rollout.kind == "recreate" else ():
                self._end(name)
            async for name in _paced(old, rollout.over):
                delay = self._dice.uniform(*rollout.delay)
                if rollout.kind == "reboot":
                    self._group.create_task(self._reboot(name, delay))
                    continue
                if rollout.kind == "rolling":
                    self._end(name)
                self._start_next(delay)
        self._account.note(f"{rollout.kind} rollout ends: the last new node was made")

    async def _surge(self, old: list[str], rollout: Rollout) -> None:
        room = asyncio.Semaphore(_surplus(len(old)))
        async with asyncio.TaskGroup() as group:
            async for name in _paced(old, rollout.over):
                await room.acquire()
                group.create_task(self._succeed(name, self._dice.uniform(*rollout.delay), room))

    async def _succeed(self, name: str, delay: float, room: asyncio.Semaphore) -> None:
        successor = self._start_next(delay)
        await asyncio.sleep(delay)
        while successor.name in self.nodes and not successor.is_up:
            await asyncio.sleep(PROBE)
        self._end(name)
        room.release()


async def _paced(names: list[str], over: float) -> AsyncIterator[str]:
    began = asyncio.get_running_loop().time()
    for number, name in enumerate(names):
        await asyncio.sleep(began + over * number / len(names) - asyncio.get_running_loop().time())
        yield name
