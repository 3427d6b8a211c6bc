"""The command line of a simulation: `python -m simulation --help`. Loads no Django."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from simulation import process
from simulation.account import Account
from simulation.agents import LEAVING, RESTARTING
from simulation.client import Server, SimulationError, Timing
from simulation.fleet import Cut, Fleet, Kill, Plan, Rollout
from simulation.runners import SimulatedRunners

DESCRIPTION = "Run simulated node agents, which report and fetch their checks as a Datadog Agent does."
# How many connections a client of the stats may hold open.
STATS_CLIENTS = 1000
# A span of time, and how many seconds each unit has.
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(s|m|h|d|w|seconds?|minutes?|hours?|days?|weeks?)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Options that say what happens to the nodes of --nodes.
PLAN = (
    "seed",
    "kill_after",
    "pause",
    "rollout",
    "drop_heartbeats",
    "miss_polls",
    "slow",
    "run_slower",
    "fail",
    "seconds",
    "report",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate as the arguments say, by default this process's. Exits with code 2 and a line when one is wrong."""
    parser = ArgumentParser(prog="python -m simulation", description=DESCRIPTION)
    add_arguments(parser)
    try:
        simulate(vars(parser.parse_args(arguments)))
    except SimulationError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def add_arguments(parser: ArgumentParser) -> None:
    """Add all options of a simulation to the parser; `simulate` takes what it parses."""
    parser.add_argument("--url", default="https://127.0.0.1:5005", help="of the cluster agent")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--nodes", type=_count, metavar="N", help="this many, with a summary each 10 s")
    who.add_argument("--name", type=_name, help="one of this name, telling what it runs")
    parser.add_argument("--prefix", type=_name, default="node-", help="of the names of --nodes")
    parser.add_argument("--interval", type=_interval, default=10.0, metavar="TIME", help="between two reports")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="of the node agents' token")
    parser.add_argument(
        "--stats-port", type=_port, default=0, metavar="PORT", help="serve runners' stats there; 0: don't"
    )
    parser.add_argument(
        "--goodbye",
        choices=(LEAVING, RESTARTING, "none"),
        help="said on SIGTERM, and by those that a rollout replaces; default: leaving, of --nodes none",
    )
    _add_plan(parser)


def _add_plan(parser: ArgumentParser) -> None:
    plan = parser.add_argument_group("what happens to the nodes of --nodes, in seconds from the start")
    plan.add_argument("--seed", type=int, default=0, help="of moments, choices and execution times")
    plan.add_argument(
        "--for", dest="seconds", type=_length, metavar="TIME", help="seconds, or 90s, 40m, 2h: then report and end"
    )
    plan.add_argument("--report", type=Path, metavar="FILE", help="JSON, written at the end and on SIGUSR1")
    plan.add_argument(
        "--kill-after", type=_kill, action="append", metavar="S:N", help="at second S, N nodes vanish; repeatable"
    )
    plan.add_argument(
        "--pause",
        type=_cut,
        action="append",
        metavar="S:N:D",
        help="at second S, the first N are cut off for D seconds",
    )
    plan.add_argument("--rollout", choices=("surge", "recreate", "rolling", "reboot"), help="replace all nodes")
    plan.add_argument("--rollout-after", type=_moment, default=60.0, metavar="S", help="default 60")
    plan.add_argument("--over", type=_moment, default=0.0, metavar="S", help="spread the rollout's new nodes over it")
    plan.add_argument(
        "--start-delay", type=_range, default=(0.0, 0.0), metavar="A..B", help="a rollout's node is up after so long"
    )
    plan.add_argument("--drop-heartbeats", type=_share, default=0.0, metavar="RATE", help="share that never arrives")
    plan.add_argument(
        "--miss-polls",
        type=_missing,
        action="append",
        metavar="NAME=RATE",
        help="share of this node's heartbeats that never arrives; repeatable",
    )
    plan.add_argument("--slow", type=_count, default=0, metavar="N", help="N nodes send and read with pauses of 1 s")
    plan.add_argument(
        "--run-slower",
        type=_slowdown,
        action="append",
        metavar="NAME=FACTOR",
        help="by its stats, this node's checks take so many times as long; repeatable",
    )
    plan.add_argument(
        "--fail",
        type=_failing,
        action="append",
        metavar="CHECK=ERROR",
        help="by their stats, checks whose IDs begin so fail with this error: postgres:db-11=refused; repeatable",
    )


def simulate(options: dict[str, Any]) -> None:
    """Simulate until the process is told to end, or the plan is over: ends the process. Raises SimulationError.

    `options` are those of `add_arguments`, by name; others are ignored.
    """
    server = Server.at(options["url"], _token(options["token_file"]))
    timing = Timing(poll=options["interval"])
    if not options["name"]:
        return _simulate_fleet(server, timing, _plan(options), options["stats_port"], options["report"])
    if unused := [option for option in PLAN if options[option]]:
        named = unused[0].replace("seconds", "for").replace("_", "-")
        raise SimulationError(f"--{named} needs --nodes")
    goodbye = _goodbye(options["goodbye"] or LEAVING)
    one = partial(process.simulate_one, server, timing, options["name"], sys.stdout, options["stats_port"], goodbye)
    return process.run(one, 1)


def _simulate_fleet(server: Server, timing: Timing, plan: Plan, stats_port: int, report: Path | None) -> None:
    try:
        if report:
            report.touch()
    except OSError as error:
        raise SimulationError(f"--report {report} can't be written: {error.strerror}") from error
    fleet = Fleet(server, timing, plan, Account(), with_addresses=bool(stats_port))
    runners = SimulatedRunners(fleet.find, server.token, plan.seed, dict(plan.errors)) if stats_port else None

    def tell() -> None:
        process.tell(fleet.report(), report)

    many = partial(process.simulate_fleet, fleet, tell, sys.stderr, runners, stats_port)
    process.run(many, plan.most_nodes + (STATS_CLIENTS if runners else 0), tell)


def _plan(options: dict[str, Any]) -> Plan:
    of_nodes = {name: tuple(options[name] or ()) for name in ("miss_polls", "run_slower")}
    for option, given in of_nodes.items():
        for name, _ in given:
            number = name.removeprefix(options["prefix"])
            if number == name or not number.isdecimal() or number.startswith("0"):
                named = option.replace("_", "-")
                raise SimulationError(
                    f"--{named}: {name} is no node of this simulation: {options['prefix']}1 is the first"
                )
    for option in ("run_slower", "fail"):
        if options[option] and not options["stats_port"]:
            raise SimulationError(f"--{option.replace('_', '-')} needs --stats-port")
    rollout = (options["rollout"], options["rollout_after"], options["over"], options["start_delay"])
    return Plan(
        nodes=options["nodes"],
        prefix=options["prefix"],
        seed=options["seed"],
        kills=tuple(options["kill_after"] or ()),
        cuts=tuple(options["pause"] or ()),
        rollout=Rollout(*rollout) if options["rollout"] else None,
        goodbye=_goodbye(options["goodbye"]),
        loss=options["drop_heartbeats"],
        losses=of_nodes["miss_polls"],
        slow=options["slow"],
        slowdowns=of_nodes["run_slower"],
        errors=tuple(options["fail"] or ()),
        seconds=options["seconds"],
    )


def _goodbye(said: str | None) -> str:
    return "" if said in (None, "none") else said


def _token(file: Path | None) -> str:
    """The token in the file, else the one of the environment, else the one that a server made on this machine."""
    if file:
        return _content(file, "--token-file")
    if given := _option("DD_CLUSTER_AGENT_AUTH_TOKEN"):
        return given
    made = Path(_option("CLUSTERAGENT_VAR") or "var").absolute() / "cluster_agent.auth_token"
    if not made.exists():
        raise SimulationError(
            f"there is no token: give --token-file or DD_CLUSTER_AGENT_AUTH_TOKEN; {made} does not exist"
        )
    return _content(made, "the token in")


def _option(name: str) -> str:
    """An option of the environment, read as the server reads it: NAME, or the content of the file NAME_FILE."""
    file = os.environ.get(f"{name}_FILE")
    return _content(Path(file), f"{name}_FILE") if file else os.environ.get(name, "").strip()


def _content(file: Path, what: str) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulationError(f"{what} {file} can't be read: {error}") from error


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise ArgumentTypeError(f"{text!r} is no {what} from {low:g} to {high:g}")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _seconds(text: str, low: float, high: float) -> float:
    """A span in seconds: `90`, or as deadlines are written elsewhere, `90s`, `40m`, `2 hours`."""
    found = _SPAN.fullmatch(text.strip())
    number = str(float(found[1]) * _UNITS[found[2][0]]) if found else text
    try:
        return _number(number, low, high, "")
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is no span, as 90s, 40m or 2h, from {low:g} to {high:g} seconds") from None


_interval = partial(_seconds, low=0.1, high=3600)
_length = partial(_seconds, low=0.1, high=1_000_000)
_moment = partial(_seconds, low=0, high=1_000_000)
_share = partial(_number, low=0, high=1, what="share")


def _port(text: str) -> int:
    return int(_number(text, 0, 65535, "port"))


def _kill(text: str) -> Kill:
    return Kill(*_parts(text, ":", _moment, _count))


def _cut(text: str) -> Cut:
    return Cut(*_parts(text, ":", _moment, _count, _moment))


def _of_node(text: str, kind: Callable[[str], float]) -> tuple[str, float]:
    name, given = _parts(text, "=", _name, kind)
    return name, given


def _failing(text: str) -> tuple[str, str]:
    check, _, error = text.partition("=")
    if not check or not error:
        raise ArgumentTypeError(f"{text!r} is no beginning of a check ID and an error, as postgres:db-11=refused")
    return check, error


_missing = partial(_of_node, kind=_share)
_slowdown = partial(_of_node, kind=partial(_number, low=0.01, high=1000, what="factor"))


def _range(text: str) -> tuple[float, float]:
    low, high = _parts(text, "..", _moment, _moment)
    if low > high:
        raise ArgumentTypeError(f"{text!r} ends before it begins")
    return low, high


def _parts(text: str, separator: str, *kinds: Callable[[str], Any]) -> list[Any]:
    parts = text.split(separator)
    if len(parts) != len(kinds):
        raise ArgumentTypeError(f"{text!r} has not {len(kinds)} parts separated by {separator!r}")
    return [kind(part) for kind, part in zip(kinds, parts, strict=True)]


def _name(text: str) -> str:
    if not 1 <= len(text) <= 253 or "/" in text or not text.isprintable() or text != text.strip():
        raise ArgumentTypeError(
            f"{text!r} is not 1 to 253 printable characters without / and without blanks at the ends"
        )
    return text
