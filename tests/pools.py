"""Pools of simulated node agents, in a thread of the tests' process: each agent has a token, which it reads when it starts."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from simulation.agents import RESTARTING, Observer, SimulatedNode
from simulation.client import CallError, Server, Timing
from tests.replicas import wait_for


class Failures(Observer):
    """Notes each call that had no usable answer, and the reasons."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.reasons: set[str] = set()

    def called(self, node: SimulatedNode, route: str, seconds: float, error: CallError | None) -> None:
        """Note the error."""
        if error:
            self.found.append(f"{node.name} {route}: {error}")
            self.reasons.add(error.reason)


class Pool:
    """Node agents of one server, which report each `poll` seconds. Call `end` in any case."""

    def __init__(self, url: str, poll: float = 0.1) -> None:
        self._url, self._timing = url, Timing(poll=poll)
        self.failures = Failures()
        self.nodes: dict[str, SimulatedNode] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self, name: str, token: str) -> None:
        """Start the node agent and wait until it reports."""
        self._do(self._start(name, token))
        node = self.nodes[name]
        wait_for(f"{name} reports", lambda: node.counters.heartbeats > 1 and node.counters.fetches)

    async def _start(self, name: str, token: str) -> None:
        node = SimulatedNode(name, Server.at(self._url, token), self._timing, self.failures)
        self.nodes[name], self._tasks[name] = node, asyncio.create_task(node.run())

    def restart(self, name: str, token: str) -> None:
        """Say goodbye with the token that it has, stop, and start with this one."""
        self._do(self.nodes[name].say_goodbye(RESTARTING))
        self._do(self._stop(name))
        self.start(name, token)

    def give(self, token: str) -> None:
        """Restart all of them with this token, one after the other."""
        for name in list(self.nodes):
            self.restart(name, token)

    async def _stop(self, name: str) -> None:
        self._tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[name]

    def wait_until_all_report(self, patience: float) -> None:
        """Wait until each has had an answer to a report that it made from now on."""
        before = {name: node.heard for name, node in self.nodes.items()}
        wait_for("all report", lambda: all(self.nodes[name].heard > heard for name, heard in before.items()), patience)

    def running(self) -> Iterable[SimulatedNode]:
        """Return the agents that run a config."""
        return [node for node in self.nodes.values() if node.running]

    def end(self) -> None:
        """Stop all of them."""
        for name in self._tasks:
            self._do(self._stop(name))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
