"""Runners that are pods: simulated node agents with objects in the API server, replaced as a Deployment replaces its pods."""

import asyncio
from collections.abc import Callable
from typing import Any

from simulation.account import Account
from simulation.agents import SimulatedNode, Simulation
from simulation.client import Server, Timing
from simulation.runners import RUNNER, numbered_address
from tests.kubernetes.kubelet import Kubelet

# Between two looks whether a new pod's agent is up.
LOOK = 0.05
# The share of the pods that are being replaced at a time: a Deployment's default.
SURGE = 0.25


class Deployment:
    """Pods of runners. sleep: for so many seconds their preStop hook lets them live on when they are deleted."""

    def __init__(self, kubelet: Kubelet, simulation: Simulation, sleep: float) -> None:
        self._kubelet, self._simulation, self._sleep = kubelet, simulation, sleep
        self._made = 0
        self.pods: list[str] = []

    async def scale(self, number: int) -> None:
        """Make so many pods, and wait until their agents report."""
        room = asyncio.Semaphore(8)

        async def make() -> None:
            async with room:
                await self._make()

        await asyncio.gather(*(make() for _ in range(number)))

    async def roll_out(self) -> None:
        """Replace all pods, some at a time: each is deleted when its successor is up."""
        old, room = list(self.pods), asyncio.Semaphore(max(1, round(len(self.pods) * SURGE)))

        async def replace(name: str) -> None:
            async with room:
                await self._make()
                await self._end(name)

        await asyncio.gather(*map(replace, old))

    async def _make(self) -> SimulatedNode:
        self._made += 1
        name, address = f"runner-{self._made}", numbered_address(self._made)
        await asyncio.to_thread(self._kubelet.run, name, address, f"worker-{self._made % 10}")
        node = self._simulation.start(name, node_type=RUNNER, real_ip=address)
        while not node.counters.fetches:
            await asyncio.sleep(LOOK)
        self.pods.append(name)
        return node

    async def _end(self, name: str) -> None:
        """The API server notes that the pod is to be deleted; its hook sleeps, its agent ends, and it is gone."""
        self.pods.remove(name)
        await asyncio.to_thread(self._kubelet.delete, name)
        await asyncio.sleep(self._sleep)
        self._simulation.vanish(name)
        await asyncio.to_thread(self._kubelet.end, name)


async def replaced(
    kubelet: Kubelet,
    server: Server,
    timing: Timing,
    number: int,
    sleep: float,
    *,
    give_work: Callable[[], None],
    wait_for_end: Callable[[], None],
) -> dict[str, Any]:
    """Let so many runners work, and replace them all; return the account of it.

    Called in threads: give_work when the pods are up, wait_for_end when the last one is replaced, while the new ones report.
    """
    account = Account()
    async with Simulation(server, timing, account) as simulation:
        pods = Deployment(kubelet, simulation, sleep)
        await pods.scale(number)
        await asyncio.to_thread(give_work)
        while not all(node.running for node in simulation.nodes.values()):
            await asyncio.sleep(LOOK)
        await pods.roll_out()
        await asyncio.to_thread(wait_for_end)
        # Until the new ones have fetched what they were given.
        await asyncio.sleep(2 * timing.poll)
        return account.report()
