"""Simulated node agents, for a first look, a demonstration or a load test."""

import sys
from argparse import ArgumentTypeError
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusteragent.lib import conf
from nodes import simulator
from nodes.agent_client import Server, SimulationError, Timing


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

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _simulate(options)
        except SimulationError as error:
            raise CommandError(str(error), returncode=2) from error


def _simulate(options: dict[str, Any]) -> None:
    server = Server.at(options["url"], _token(options["token_file"]))
    timing = Timing(poll=options["interval"])
    if options["name"]:
        return simulator.run(partial(simulator.simulate_one, server, timing, options["name"], sys.stdout), 1)
    names = [f"{options['prefix']}{number}" for number in range(1, options["nodes"] + 1)]
    return simulator.run(partial(simulator.simulate_many, server, timing, names, sys.stderr), len(names))


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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
    return seconds


def _name(text: str) -> str:
    if not text or not text.isprintable():
        raise ArgumentTypeError(f"{text!r} is no name of a node")
    return text
