"""Simulated node agents, for a first look, a demonstration, a load test or a proof."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusteragent.lib import conf
from nodes import simulation_run
from nodes.account import Account
from nodes.agent_client import Server, SimulationError, Timing
from nodes.fleet import Cut, Fleet, Kill, Plan, Rollout
from nodes.names import validate_node_name
from nodes.simulated_runners import SimulatedRunners
from nodes.simulator import LEAVING, RESTARTING

# How many connections a client of the stats may hold open.
STATS_CLIENTS = 1000
# Options that say what befalls the nodes of --nodes.
PLAN = ("seed", "kill_after", "pause", "rollout", "drop_heartbeats", "slow", "seconds", "report")


class Command(BaseCommand):
    help = "Run simulated node agents, which report and fetch their checks as a Datadog Agent does."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="https://127.0.0.1:5005", help="of the cluster agent")
        who = parser.add_mutually_exclusive_group(required=True)
        who.add_argument("--nodes", type=_count, metavar="N", help="this many, with a summary each 10 s")
        who.add_argument("--name", type=_name, help="one of this name, telling what it runs")
        parser.add_argument("--prefix", type=_name, default="node-", help="of the names of --nodes")
        parser.add_argument("--interval", type=_seconds, default=10.0, metavar="SECONDS", help="between two reports")
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

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _simulate(options)
        except SimulationError as error:
            raise CommandError(str(error), returncode=2) from error


def _add_plan(parser: CommandParser) -> None:
    plan = parser.add_argument_group("what befalls the nodes of --nodes, in seconds from the start")
    plan.add_argument("--seed", type=int, default=0, help="of moments, choices and execution times")
    plan.add_argument("--for", dest="seconds", type=_length, metavar="SECONDS", help="then report and end")
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
    plan.add_argument("--rollout", choices=("surge", "recreate", "rolling"), help="replace all nodes under new names")
    plan.add_argument("--rollout-after", type=_moment, default=60.0, metavar="S", help="default 60")
    plan.add_argument("--over", type=_moment, default=0.0, metavar="S", help="spread the rollout's new nodes over it")
    plan.add_argument(
        "--start-delay", type=_range, default=(0.0, 0.0), metavar="A..B", help="a rollout's node is up after so long"
    )
    plan.add_argument("--drop-heartbeats", type=_share, default=0.0, metavar="RATE", help="share that never arrives")
    plan.add_argument("--slow", type=_count, default=0, metavar="N", help="N nodes send and read with pauses of 1 s")


def _simulate(options: dict[str, Any]) -> None:
    server = Server.at(options["url"], _token(options["token_file"]))
    timing = Timing(poll=options["interval"])
    if not options["name"]:
        return _simulate_fleet(server, timing, _plan(options), options["stats_port"], options["report"])
    if unused := [option for option in PLAN if options[option]]:
        named = unused[0].replace("seconds", "for").replace("_", "-")
        raise SimulationError(f"--{named} needs --nodes")
    goodbye = _goodbye(options["goodbye"] or LEAVING)
    one = partial(
        simulation_run.simulate_one, server, timing, options["name"], sys.stdout, options["stats_port"], goodbye
    )
    return simulation_run.run(one, 1)


def _simulate_fleet(server: Server, timing: Timing, plan: Plan, stats_port: int, report: Path | None) -> None:
    if report:
        _check_writable(report)
    fleet = Fleet(server, timing, plan, Account(), with_addresses=bool(stats_port))
    runners = SimulatedRunners(fleet.find, server.token, plan.seed) if stats_port else None

    def tell() -> None:
        simulation_run.tell(fleet.report(), report)

    many = partial(simulation_run.simulate_fleet, fleet, tell, sys.stderr, runners, stats_port)
    simulation_run.run(many, plan.most_nodes + (STATS_CLIENTS if runners else 0), tell)


def _plan(options: dict[str, Any]) -> Plan:
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
        slow=options["slow"],
        seconds=options["seconds"],
    )


def _goodbye(said: str | None) -> str:
    return "" if said in (None, "none") else said


def _check_writable(file: Path) -> None:
    try:
        file.touch()
    except OSError as error:
        raise SimulationError(f"--report {file} can't be written: {error.strerror}") from error


def _token(file: Path | None) -> str:
    if file:
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SimulationError(f"--token-file {file} can't be read: {error}") from error
    if not conf.AUTH_TOKEN:
        raise SimulationError(
            f"there is no token: give --token-file or DD_CLUSTER_AGENT_AUTH_TOKEN; "
            f"{conf.VAR / 'cluster_agent.auth_token'} does not exist"
        )
    return conf.AUTH_TOKEN


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


def _seconds(text: str) -> float:
    return _number(text, 0.1, 3600, "number of seconds")


def _length(text: str) -> float:
    return _number(text, 0.1, 1_000_000, "number of seconds")


def _moment(text: str) -> float:
    return _number(text, 0, 1_000_000, "number of seconds")


def _share(text: str) -> float:
    return _number(text, 0, 1, "share")


def _port(text: str) -> int:
    return int(_number(text, 0, 65535, "port"))


def _kill(text: str) -> Kill:
    return Kill(*_parts(text, ":", _moment, _count))


def _cut(text: str) -> Cut:
    return Cut(*_parts(text, ":", _moment, _count, _moment))


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
    try:
        validate_node_name(text)
    except ValidationError as error:
        raise ArgumentTypeError(f"{text!r}: {' '.join(error.messages)}") from error
    return text
