"""Simulated node agents behind a load balancer."""

import asyncio

from clusteragent.lib import conf
from simulation.agents import Simulation
from simulation.client import Server as Address
from simulation.client import Timing
from tests.faults.account import Account
from tests.faults.wire import Loop, Proxy


class Group:
    """Node agents that reach the web servers through the same load balancer, which a test can let fail."""

    simulation: Simulation

    def __init__(self, loop: Loop, ports: list[int], account: Account, timing: Timing) -> None:
        self._loop, self._account, self._timing = loop, account, timing
        self.way = Proxy(loop, ports)
        loop.do(self._begin())

    async def _begin(self) -> None:
        ready = asyncio.Event()
        self._life = asyncio.create_task(self._live(ready))
        await ready.wait()

    async def _live(self, ready: asyncio.Event) -> None:
        address = Address.at(f"https://127.0.0.1:{self.way.port}", conf.AUTH_TOKEN)
        async with Simulation(address, self._timing, self._account) as self.simulation:
            ready.set()
            await asyncio.Event().wait()

    def join(self, *names: str, address: str = "") -> None:
        """Start nodes, spread over the time between two reports, as real nodes don't report at the same moment."""

        async def start() -> None:
            for number, name in enumerate(names):
                self.simulation.start(name, self._timing.poll * number / len(names), real_ip=address)

        self._loop.do(start())

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
