"""Simulated node agents: each reports, fetches and "runs" cluster checks on the wire exactly as a Datadog Agent does.

Thousands live in one asyncio process. They know nothing of the server but its URL and token.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from simulation.client import (
    CallError,
    Config,
    Connection,
    Link,
    Server,
    Timing,
    UnreadableAnswerError,
    escape,
    read_configs,
    typed,
)

T = TypeVar("T")
# Opens the port of a node's stats at its address.
Serve = Callable[[str], Awaitable[asyncio.Server]]

LEAVING, RESTARTING = "leaving", "restarting"
# Seconds that a pod's preStop hook gives a node that leaves.
FAREWELL = 15


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
    """Is told what happens to the nodes. A subclass overrides what it wants to know; the others do nothing."""

    def checks_changed(self, node: "SimulatedNode", started: list[Config], stopped: list[Config]) -> None:
        """`node` runs other configs from now on."""

    def contact_changed(self, node: "SimulatedNode") -> None:
        """`node.failure` is another than before: why its last call failed, empty when it did not."""

    def called(self, node: "SimulatedNode", route: str, seconds: float, error: CallError | None) -> None:
        """A call of `node` to version, status or configs ended after `seconds`, with a usable answer or the error."""

    def vanished(self, node: "SimulatedNode") -> None:
        """`node` is dead, and nobody runs what it ran."""


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
        link: Link | None = None,
        serve: Serve | None = None,
        slowdown: float = 1.0,
    ) -> None:
        self.name = name
        # How many times as long its checks take as on other nodes, by its stats.
        self.slowdown = slowdown
        self.real_ip = real_ip
        self.link = link or Link()
        self.last_change = 0
        self.running: dict[int, Running] = {}
        self.counters = Counters()
        self.failure = ""
        self.is_up = self.said_goodbye = False
        # When the server last answered a heartbeat, by `time.monotonic()`.
        self.heard = time.monotonic()
        self._extra = self.heard
        self._timing, self._observer, self._node_type, self._serve = timing, observer, node_type, serve
        self._connection = Connection(server, timing, real_ip, self.link)
        # A preStop hook is a process of its own.
        self._hook = Connection(server, timing, real_ip, self.link)
        self._name_in_path = escape(name)

    async def run(self, delay: float = 0) -> NoReturn:
        """Live as a node agent, from `delay` seconds on, until cancelled; then vanish without a farewell."""
        port: asyncio.Server | None = None
        try:
            await asyncio.sleep(delay)
            self.is_up = True
            port = await self._serve(self.real_ip) if self._serve else None
            await self._say_hello()
            await self._heartbeat()
            await self._fetch()
            await self._poll_for_ever()
        finally:
            self.is_up = False
            self._connection.abort()
            if port:
                port.close()

    async def say_goodbye(self, kind: str) -> None:
        """Tell the server that it is `leaving` or `restarting`, and live on. Raises CallError."""
        self.said_goodbye = True
        path, body = f"/api/v1/clusterchecks/goodbye/{self._name_in_path}", json.dumps({"kind": kind}).encode()
        try:
            await self._hook.call("POST", path, body, patience=self._timing.call)
        finally:
            self._hook.abort()

    async def _say_hello(self) -> None:
        pause = self._timing.first_retry
        while True:
            try:
                await self._call("version", _read_object)
            except CallError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._timing.longest_retry)
            else:
                self.heard = self._extra = time.monotonic()
                return

    async def _poll_for_ever(self) -> NoReturn:
        poll_at = time.monotonic() + self._timing.poll
        while True:
            extra_at = max(self.heard, self._extra) + self._timing.extra_heartbeat
            await asyncio.sleep(min(poll_at, extra_at) - time.monotonic())
            if extra_at < poll_at:
                self._extra = time.monotonic()
                try:
                    await self._post_status(-1, bytes, self._timing.extra_call)
                except CallError:
                    self.counters.heartbeats_failed += 1
            else:
                # A poll that was missed while a call took long is made up for once, as by Go's ticker.
                poll_at = max(poll_at + self._timing.poll, time.monotonic())
                if not await self._heartbeat():
                    await self._fetch()

    async def _heartbeat(self) -> bool:
        """Report; whether our configs are current. A failure counts as yes, however long it lasts.

        Within the agent's grace period that is its rule; beyond it the report is an error, which also skips the fetch.
        """
        try:
            is_current = await self._post_status(self.last_change, _read_is_current, self._timing.call)
        except CallError:
            self.counters.heartbeats_failed += 1
            return True
        self.heard = time.monotonic()
        return is_current

    async def _post_status(self, last_change: int, read: Callable[[bytes], T], patience: float) -> T:
        status = {"last_change": last_change} | ({"node_type": self._node_type} if self._node_type else {})
        self.counters.heartbeats += 1
        body = json.dumps(status, separators=(",", ":")).encode()
        return await self._call("status", read, body, patience)

    async def _fetch(self) -> None:
        """Get the configs and run them. Without a 200 what runs is kept; an unreadable 200 stops everything."""
        self.counters.fetches += 1
        try:
            self.last_change, configs = await self._call("configs", read_configs)
        except CallError as error:
            self.counters.fetches_failed += 1
            if not isinstance(error, UnreadableAnswerError):
                return
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
        self.counters.starts += len(started)
        self.counters.stops += len(stopped)
        if started and stopped:
            both = Counter(config.label for config in started) & Counter(config.label for config in stopped)
            self.counters.restarts += both.total()
        self._observer.checks_changed(self, started, stopped)

    async def _call(self, route: str, read: Callable[[bytes], T], body: bytes = b"", patience: float = 0) -> T:
        path = "/version" if route == "version" else f"/api/v1/clusterchecks/{route}/{self._name_in_path}"
        began = time.monotonic()
        try:
            if route == "status" and self.link.loses_heartbeat():
                await self._connection.lose()
            method = "POST" if body else "GET"
            answer = await self._connection.call(method, path, body, patience=patience or self._timing.call)
            value = _read(read, answer)
        except CallError as error:
            self._note_call(route, began, error)
            raise
        self._note_call(route, began, None)
        return value

    def _note_call(self, route: str, began: float, error: CallError | None) -> None:
        self._observer.called(self, route, time.monotonic() - began, error)
        failure = str(error or "")
        if failure != self.failure:
            self.failure = failure
            self._observer.contact_changed(self)


def _read(read: Callable[[bytes], T], answer: bytes) -> T:
    try:
        return read(answer)
    except ValueError as error:
        raise UnreadableAnswerError(f"the answer can't be read: {error}", "unreadable") from error


def _read_object(answer: bytes) -> dict[str, Any]:
    return typed(json.loads(answer), dict, {})


def _read_is_current(answer: bytes) -> bool:
    return typed(_read_object(answer).get("isuptodate"), bool, False)


class Simulation:
    """Many node agents of one server; used as `async with`, which ends them all when it is left."""

    def __init__(self, server: Server, timing: Timing | None = None, observer: Observer | None = None) -> None:
        self.nodes: dict[str, SimulatedNode] = {}
        self._server, self._timing, self._observer = server, timing or Timing(), observer or Observer()
        self._tasks: dict[str, asyncio.Task[NoReturn]] = {}
        self._group = asyncio.TaskGroup()
        # How each node that has an address opens the port of its stats there, while it lives.
        self.serve: Serve | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not `vanish`: that the simulation ends is no death that an observer should hear of.
        for task in self._tasks.values():
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def start(
        self,
        name: str,
        delay: float = 0,
        *,
        node_type: int = 0,
        real_ip: str = "",
        link: Link | None = None,
        slowdown: float = 1.0,
    ) -> SimulatedNode:
        """A new node agent, `delay` seconds from now."""
        node = SimulatedNode(
            name,
            self._server,
            self._timing,
            self._observer,
            node_type=node_type,
            real_ip=real_ip,
            link=link,
            serve=self.serve if real_ip else None,
            slowdown=slowdown,
        )
        self.nodes[name] = node
        self._tasks[name] = self._group.create_task(node.run(delay))
        return node

    def vanish(self, name: str) -> None:
        """The node agent dies without a farewell."""
        node = self.nodes.pop(name)
        self._tasks.pop(name).cancel()
        node.is_up = False
        self._observer.vanished(node)

    async def leave(self, name: str, kind: str, patience: float = FAREWELL) -> None:
        """The node agent says goodbye and vanishes: one that leaves when it runs nothing any more, after 15 s at most."""
        node = self.nodes[name]
        with suppress(CallError, TimeoutError):
            await node.say_goodbye(kind)
            async with asyncio.timeout(patience if kind == LEAVING else 0):
                while node.running:
                    await asyncio.sleep(0.05)
        # It may have been killed meanwhile.
        if self.nodes.get(name) is node:
            self.vanish(name)

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
