"""A simulation as a process of its own: what it prints, which signals it heeds, how it ends."""

import asyncio
import json
import os
import resource
import signal
import sys
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from simulation.agents import Observer, SimulatedNode, Simulation
from simulation.client import Config, Server, SimulationError, Timing
from simulation.fleet import Fleet
from simulation.runners import RUNNER, SimulatedRunners, named_address, numbered_address


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


async def simulate_one(
    server: Server, timing: Timing, name: str, out: TextIO, stats_port: int = 0, goodbye: str = ""
) -> None:
    """One node agent from now on, telling `out` when its checks change; a runner if it has a port for its stats."""
    simulation = Simulation(server, timing, Terminal(out))
    address = named_address(name) if stats_port else ""
    if address:
        await SimulatedRunners(lambda _: simulation.nodes.get(name), server.token).listen(address, stats_port)
    async with simulation:
        simulation.start(name, node_type=RUNNER if address else 0, real_ip=address)
        await (_asked_to_end() if goodbye else asyncio.Event().wait())
        await simulation.leave(name, goodbye)
        os._exit(0)


async def simulate_fleet(
    fleet: Fleet, tell: Callable[[], None], out: TextIO, runners: SimulatedRunners | None = None, stats_port: int = 0
) -> None:
    """Play the fleet's plan with a summary to `out` each 10 s; at its end tell, and end the process."""
    if runners:
        # That the port is taken must be said before the first node starts. Not asked of all addresses: the nodes of other
        # processes have theirs on the same port.
        (await runners.listen(numbered_address(1), stats_port)).close()
        fleet.serve = partial(runners.listen, port=stats_port)
    async with fleet:
        summaries = asyncio.create_task(_summarise(fleet, Terminal(out)))
        await (_play_until_asked(fleet) if fleet.plan.goodbye else fleet.play())
        summaries.cancel()
        tell()
        # As after a signal: to cancel and close thousands of connections would take seconds.
        os._exit(0)


async def _play_until_asked(fleet: Fleet) -> None:
    """Play the fleet's plan. All say goodbye if the process is asked to end before that."""
    play, asked = asyncio.create_task(fleet.play()), asyncio.create_task(_asked_to_end())
    await asyncio.wait((play, asked), return_when=asyncio.FIRST_COMPLETED)
    if asked.done():
        play.cancel()
        await fleet.leave_all()
    else:
        play.result()


async def _asked_to_end() -> None:
    """Until SIGTERM. A second one ends the process at once."""
    asked, at_once = asyncio.Event(), signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    await asked.wait()
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, at_once)


async def _summarise(fleet: Fleet, terminal: Terminal) -> NoReturn:
    while True:
        await asyncio.sleep(10)
        terminal.say(fleet.summary())


def run(
    simulate: Callable[[], Coroutine[Any, Any, None]], connections: int, tell: Callable[[], None] = lambda: None
) -> None:
    """Simulate until SIGTERM or SIGINT, which end the process at once, with exit code 0, unless nodes say goodbye on SIGTERM.
    Raises SimulationError.

    `tell` is called before that end and on SIGUSR1.
    """
    _allow_connections(connections)
    # asyncio keeps a buffer of this size for each TLS connection, 256 KiB if unchanged: 2.6 GB for 10 000 nodes.
    sslproto.SSLProtocol.max_size = 4096

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        # A real agent is gone within 0.1 s; cancelling and closing thousands of connections would take seconds.
        try:
            tell()
        finally:
            os._exit(0)

    # Not the event loop's handlers: they would wait until all calls that are ready were served.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: tell())
    try:
        asyncio.run(simulate())
    except* BrokenPipeError:
        # Whoever read what a node tells has enough of it.
        os._exit(1)


def _allow_connections(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 100
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise SimulationError(f"{count} nodes need {needed} open files, and the limit here is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def tell(report: dict[str, Any], file: Path | None = None) -> None:
    """Print the report for people to stderr, and write it to the file as JSON, whole or not at all."""
    _say(describe(report))
    if file:
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(report, indent=1))
            partial.replace(file)
        except OSError as error:
            _say(f"{file} can't be written: {error.strerror}\n")


def _say(text: str) -> None:
    # Not sys.stderr.write: a signal may have interrupted just that, which Python forbids to enter again. Nor may a closed
    # pipe, of all things, end a simulation that was only asked for its report.
    with suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode())


def describe(report: dict[str, Any]) -> str:
    """The report in lines for people."""
    nodes, checks, restarts = report["nodes"], report["checks"], report["restarts"]
    ended = "none ended"
    if checks["ended"]:
        first = ", ".join(checks["ended_first"])
        ended = f"{checks['ended']} ended, up to {checks['ended_longest']:.1f} s ago: {first}"
    lines = [
        f"after {report['seconds']:.0f} s: {nodes['living']} of {nodes['started']} nodes live, {nodes['cut_off']} cut off",
        f"checks: {checks['seen']} seen, {checks['running']} run, {checks['doubled']} of them twice; {ended}",
        f"without a runner: {_spells(report['without_runner'])}",
        f"two runners at once: {_spells(report['two_runners'])}",
        f"restarts: {restarts['changed']} with other bytes, {restarts['again']} with the same, {restarts['moved']} moved, "
        f"{restarts['moved_undisturbed']} of them off an undisturbed node",
        f"last heartbeat of a dead node to its checks elsewhere: {_durations(report['takeovers'])}",
        f"heartbeats: {_calls(report['heartbeats'])}",
        f"fetches: {_calls(report['fetches'])}",
        f"our own delay, in all latencies: {_durations(report['own_delay'])}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _spells(spells: dict[str, Any]) -> str:
    text = _durations(spells)
    if spells["number"]:
        worst, undisturbed = spells["worst"][0], spells["undisturbed"]
        text += f" ({worst['check']}: {', '.join(worst['nodes'])}); undisturbed: {_durations(undisturbed)}"
    return text


def _calls(calls: dict[str, Any]) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in calls["reasons"].items())
    failed = f"{calls['failed']} failed" + (f" ({reasons})" if reasons else "")
    return f"{calls['sent']} sent, {failed}, {calls['lost']} lost by us; {_durations(calls['answered'])}"


def _durations(durations: dict[str, Any]) -> str:
    if not durations["number"]:
        return "never"
    keys = ("total", "mean", "p50", "p99", "longest")
    return f"{durations['number']} times, " + ", ".join(f"{key} {durations[key]:.4g}" for key in keys) + " s"
