"""Simulated node agents behind a load balancer."""

import asyncio
import time

from clusteragent.lib import conf
from simulation.agents import SimulatedNode, Simulation
from simulation.client import Server as Address
from simulation.client import Timing
from simulation.runners import RUNNER, SimulatedRunners, named_address
from tests.faults.account import Account
from tests.faults.wire import Loop, Proxy


class Group:
    """Node agents that reach the web servers through the same load balancer, which a test can let fail.

    stats_port: they are runners, and each has its stats at this port of an address of its own, while it lives.
    """

    simulation: Simulation

    def __init__(self, loop: Loop, ports: list[int], account: Account, timing: Timing, *, stats_port: int = 0) -> None:
        self._loop, self._account, self._timing, self._stats_port = loop, account, timing, stats_port
        self._open: dict[str, asyncio.Server] = {}
        self.way = Proxy(loop, ports)
        loop.do(self._begin())

    async def _begin(self) -> None:
        ready = asyncio.Event()
        self._life = asyncio.create_task(self._live(ready))
        await ready.wait()

    async def _live(self, ready: asyncio.Event) -> None:
        address = Address.at(f"https://127.0.0.1:{self.way.port}", conf.AUTH_TOKEN)
        async with Simulation(address, self._timing, self._account) as self.simulation:
            if self._stats_port:
                self._runners = SimulatedRunners(self._find, conf.AUTH_TOKEN)
                self.simulation.serve = self._serve
            ready.set()
            await asyncio.Event().wait()

    def join(self, *names: str, address: str = "") -> None:
        """Start nodes, spread over the time between two reports, as real nodes don't report at the same moment."""

        async def start() -> None:
            for number, name in enumerate(names):
                self._start(name, self._timing.poll * number / len(names), address)

        self._loop.do(start())

    def _start(self, name: str, delay: float = 0, address: str = "") -> None:
        own = address or (named_address(name) if self._stats_port else "")
        self.simulation.start(name, delay, node_type=RUNNER if self._stats_port else 0, real_ip=own)

    def _find(self, address: str) -> SimulatedNode | None:
        return next((node for node in self.simulation.nodes.values() if node.real_ip == address), None)

    async def _serve(self, address: str) -> asyncio.Server:
        # Two nodes behind one address have one port there.
        if address not in self._open or not self._open[address].is_serving():
            self._open[address] = await self._runners.listen(address, self._stats_port)
        return self._open[address]

    def close_port(self, name: str) -> None:
        """Let the port of the node's stats refuse connections, though the node lives."""

        async def close() -> None:
            self._open[self.simulation.nodes[name].real_ip].close()

        self._loop.do(close())

    def bounce(self, silences: dict[str, float]) -> dict[str, tuple[float, float]]:
        """Let each of these nodes die after its next report, and start again so many seconds later.

        Returns when each died and was back, by `time.monotonic()`.
        """

        async def bounce(name: str, seconds: float) -> tuple[float, float]:
            node = self.simulation.nodes[name]
            before = node.heard
            while node.heard == before:
                await asyncio.sleep(0.02)
            self.simulation.vanish(name)
            await asyncio.sleep(node.heard + seconds - time.monotonic())
            self._start(name)
            return node.heard, time.monotonic()

        async def bounce_all() -> list[tuple[float, float]]:
            return await asyncio.gather(*(bounce(name, seconds) for name, seconds in silences.items()))

        found = self._loop.do(bounce_all(), max(silences.values()) + 3 * self._timing.poll)
        return dict(zip(silences, found, strict=True))

    def vanish(self, *names: str) -> None:
        """Let these nodes die."""

        async def end() -> None:
            for name in names:
                self.simulation.vanish(name)

        self._loop.do(end())

    def cut(self, *names: str) -> None:
        """Cut these nodes' network: nothing that they send arrives."""
        for name in names:
            self.simulation.nodes[name].link.cut()

    def mend(self, *names: str) -> None:
        """Restore these nodes' network."""
        for name in names:
            self.simulation.nodes[name].link.mend()
