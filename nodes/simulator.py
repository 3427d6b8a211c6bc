"""Simulated node agents: each reports, fetches and "runs" cluster checks on the wire exactly as a Datadog Agent does.

Thousands live in one asyncio process. They know nothing of the server but its URL and token.
"""

import asyncio
import json
import os
import random
import resource
import signal
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TextIO

from nodes.agent_client import (
    CallError,
    Config,
    Connection,
    Server,
    SimulationError,
    Timing,
    escape,
    read_configs,
    typed,
)


@dataclass(slots=True)
class Counters:
    """What a node agent did since it started. A restart is a stop and a start of one label in one fetch, in both."""

    heartbeats: int = 0
    heartbeats_failed: int = 0
    fetches: int = 0
    fetches_failed: int = 0
    starts: int = 0
    stops: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A config that a node runs, and since when by `time.monotonic()`."""

    config: Config
    since: float


class Observer:
    """Is told what happens to the nodes; by default it does not care."""

    def checks_changed(self, node: "SimulatedNode", started: list[Config], stopped: list[Config]) -> None:
        """`node` runs other configs from now on."""

    def contact_changed(self, node: "SimulatedNode") -> None:
        """`node.failure` is another than before: why its last call failed, empty when it did not."""


class SimulatedNode:
    """One node agent: says hello, reports each interval, and fetches its configs when told that they changed."""

    def __init__(
        self,
        name: str,
        server: Server,
        timing: Timing,
        observer: Observer,
        *,
        node_type: int = 0,
        real_ip: str = "",
    ) -> None:
        self.name = name
        self.last_change = 0
        self.running: dict[int, Running] = {}
        self.counters = Counters()
        self.failure = ""
        self._timing, self._observer, self._node_type = timing, observer, node_type
        self._connection = Connection(server, timing, real_ip)
        self._name_in_path = escape(name)
        self._heard = self._extra = time.monotonic()

    async def run(self, delay: float = 0) -> NoReturn:
        """Live as a node agent, from `delay` seconds on, until cancelled; then vanish without a farewell."""
        try:
            await asyncio.sleep(delay)
            await self._say_hello()
            await self._heartbeat()
            await self._fetch()
            await self._poll_for_ever()
        finally:
            self._connection.abort()

    async def _say_hello(self) -> None:
        pause = self._timing.first_retry
        while not await self._hears_version():
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._timing.longest_retry)
        self._heard = self._extra = time.monotonic()

    async def _hears_version(self) -> bool:
        try:
            typed(json.loads(await self._call("GET", "/version")), dict, {})
        except (CallError, ValueError):
            return False
        return True

    async def _poll_for_ever(self) -> NoReturn:
        poll_at = time.monotonic() + self._timing.poll
        while True:
            extra_at = max(self._heard, self._extra) + self._timing.extra_heartbeat
            await asyncio.sleep(min(poll_at, extra_at) - time.monotonic())
            if extra_at < poll_at:
                await self._extra_heartbeat()
            else:
                # A poll that was missed while a call took long is made up for once, as by Go's ticker.
                poll_at = max(poll_at + self._timing.poll, time.monotonic())
                await self._poll()

    async def _poll(self) -> None:
        if not await self._heartbeat():
            await self._fetch()

    async def _heartbeat(self) -> bool:
        """Report; whether our configs are current. A failure counts as yes, however long it lasts.

        Within the agent's grace period that is its rule; beyond it the report is an error, which also skips the fetch.
        """
        try:
            answer = typed(json.loads(await self._post_status(self.last_change, self._timing.call)), dict, {})
            is_current = typed(answer.get("isuptodate"), bool, False)
        except (CallError, ValueError):
            self.counters.heartbeats_failed += 1
            return True
        self._heard = time.monotonic()
        return is_current

    async def _extra_heartbeat(self) -> None:
        self._extra = time.monotonic()
        try:
            await self._post_status(-1, self._timing.extra_call)
        except CallError:
            self.counters.heartbeats_failed += 1

    async def _post_status(self, last_change: int, patience: float) -> bytes:
        status = {"last_change": last_change} | ({"node_type": self._node_type} if self._node_type else {})
        self.counters.heartbeats += 1
        body = json.dumps(status, separators=(",", ":")).encode()
        return await self._call("POST", f"/api/v1/clusterchecks/status/{self._name_in_path}", body, patience)

    async def _fetch(self) -> None:
        """Get the configs and run them. Without a 200 what runs is kept; an unreadable 200 stops everything."""
        self.counters.fetches += 1
        try:
            body = await self._call("GET", f"/api/v1/clusterchecks/configs/{self._name_in_path}")
        except CallError:
            self.counters.fetches_failed += 1
            return
        try:
            self.last_change, configs = read_configs(body)
        except ValueError as error:
            self.counters.fetches_failed += 1
            self._note_contact(f"configs can't be read: {error}")
            configs = []
        self._apply(configs)

    def _apply(self, configs: Iterable[Config]) -> None:
        wanted = {config.digest: config for config in configs}
        stopped = [running.config for digest, running in self.running.items() if digest not in wanted]
        started = [config for digest, config in wanted.items() if digest not in self.running]
        if not stopped and not started:
            return
        now = time.monotonic()
        for config in stopped:
            del self.running[config.digest]
        self.running |= {config.digest: Running(config, now) for config in started}
        self._count(started, stopped)
        self._observer.checks_changed(self, started, stopped)

    def _count(self, started: list[Config], stopped: list[Config]) -> None:
        self.counters.starts += len(started)
        self.counters.stops += len(stopped)
        if started and stopped:
            both = Counter(config.label for config in started) & Counter(config.label for config in stopped)
            self.counters.restarts += both.total()

    async def _call(self, method: str, path: str, body: bytes = b"", patience: float | None = None) -> bytes:
        try:
            answer = await self._connection.call(method, path, body, patience=patience or self._timing.call)
        except CallError as error:
            self._note_contact(str(error))
            raise
        self._note_contact("")
        return answer

    def _note_contact(self, failure: str) -> None:
        if failure != self.failure:
            self.failure = failure
            self._observer.contact_changed(self)


class Simulation:
    """Many node agents of one server; used as `async with`, which ends them all when it is left."""

    def __init__(
        self,
        server: Server,
        timing: Timing | None = None,
        observer: Observer | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.nodes: dict[str, SimulatedNode] = {}
        self._server, self._timing, self._observer = server, timing or Timing(), observer or Observer()
        self._random = random.Random(seed)  # noqa: S311
        self._tasks: dict[str, asyncio.Task[NoReturn]] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.nodes):
            self.vanish(name)
        await self._group.__aexit__(kind, error, trace)

    def start(self, name: str, delay: float = 0, *, node_type: int = 0, real_ip: str = "") -> SimulatedNode:
        """A new node agent, `delay` seconds from now."""
        node = SimulatedNode(name, self._server, self._timing, self._observer, node_type=node_type, real_ip=real_ip)
        self.nodes[name] = node
        self._tasks[name] = self._group.create_task(node.run(delay))
        return node

    def start_spread(self, names: Iterable[str]) -> None:
        """New node agents, each at its own moment of the first interval, so that they never report in step."""
        for name in names:
            self.start(name, self._random.uniform(0, self._timing.poll))

    def vanish(self, name: str) -> None:
        """The node agent dies without a farewell."""
        del self.nodes[name]
        self._tasks.pop(name).cancel()

    def totals(self) -> Counters:
        """The counters of all nodes that live, added up."""
        values = attrgetter(*(field.name for field in fields(Counters)))
        return Counters(*map(sum, zip(*(values(node.counters) for node in self.nodes.values()), strict=True)))

    def summary(self) -> str:
        """One line for people."""
        total, nodes = self.totals(), self.nodes.values()
        failures = [node.failure for node in nodes if node.failure]
        return (
            f"{len(nodes)} nodes run {sum(len(node.running) for node in nodes)} configs; "
            f"heartbeats {total.heartbeats} ({total.heartbeats_failed} failed), "
            f"fetches {total.fetches} ({total.fetches_failed} failed), "
            f"starts {total.starts}, stops {total.stops}, restarts {total.restarts}"
            + (f"; {len(failures)} nodes in trouble: {failures[0]}" if failures else "")
        )


class Terminal(Observer):
    """Lets a person in a terminal see checks move."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
        names = Counter(running.config.name for running in node.running.values())
        running = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(names.items()))
        self.say(f"{node.name} runs {len(node.running)} ({running}) started: {_few(started)} stopped: {_few(stopped)}")

    def contact_changed(self, node: SimulatedNode) -> None:
        self.say(f"{node.name} {node.failure or 'reaches the server'}")

    def say(self, line: str) -> None:
        """Print the line, with the time, at once: nothing is flushed when the process ends."""
        self._out.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._out.flush()


def _few(configs: list[Config], most: int = 8) -> str:
    labels = sorted(config.label for config in configs[:most])
    more = [f"and {len(configs) - most} more"] if len(configs) > most else []
    return ", ".join(labels + more) or "-"


async def simulate_one(server: Server, timing: Timing, name: str, out: TextIO) -> None:
    """One node agent from now on, telling `out` when its checks change."""
    async with Simulation(server, timing, Terminal(out)) as simulation:
        simulation.start(name)
        await asyncio.Event().wait()


async def simulate_many(server: Server, timing: Timing, names: Iterable[str], out: TextIO) -> None:
    """Many node agents, with a summary to `out` each 10 s."""
    async with Simulation(server, timing) as simulation:
        simulation.start_spread(names)
        while True:
            await asyncio.sleep(10)
            Terminal(out).say(simulation.summary())


def run(simulate: Callable[[], Coroutine[Any, Any, None]], connections: int) -> None:
    """Simulate until SIGTERM or SIGINT, which end the process at once, with exit code 0. Raises SimulationError."""
    _allow_connections(connections)
    # asyncio keeps a buffer of this size for each TLS connection, 256 KiB if unchanged: 2.6 GB for 10 000 nodes.
    sslproto.SSLProtocol.max_size = 4096
    # Not the event loop's handlers: they would wait until all calls that are ready were served.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    asyncio.run(simulate())


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    # A real agent is gone within 0.1 s; cancelling and closing thousands of connections would take seconds.
    os._exit(0)


def _allow_connections(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 100
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise SimulationError(f"{count} nodes need {needed} open files, and the limit here is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
