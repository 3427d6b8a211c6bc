"""What the commands share: arguments for configs and orders, their parsing, and the output of moves."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.dispatcher import told
from checks.models import Config, Move
from checks.previews import REFUSALS
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from clusteragent.lib.words import numbered

ACTOR = "command line"


def add_configs(parser: CommandParser, *, nargs: str = "+") -> None:
    """Add the argument that names configs."""
    parser.add_argument(
        "config", nargs=nargs, metavar="CHECK_ID", help="one of a config's check IDs, its digest or its short ID"
    )


def add_json(parser: CommandParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="for programs")


def add_order(parser: CommandParser) -> None:
    """Add the options of an order: `--until` and `--note`."""
    parser.add_argument("--until", metavar="TIME", default="", help=deadlines.HELP.replace("%", "%%"))
    parser.add_argument("--note", default="", help="the reason, shown with the order")


def ids(names: Sequence[str]) -> list[int]:
    """Return the ids of the configs with these digests, check IDs or short IDs. Raises CommandError for an unknown one."""
    try:
        return sorted(set(Config.objects.ids_of(names)))
    except LookupError as error:
        raise CommandError(str(error)) from error


def ids_of_check(options: dict[str, Any]) -> list[int]:
    """Return the ids of the named configs, or of all configs of the check `--check`. Raises CommandError."""
    if bool(options["config"]) == bool(options["check"]):
        raise CommandError("name check IDs, or a check with --check")
    if not options["check"]:
        return ids(options["config"])
    found = list(Config.objects.dispatchable().filter(name=options["check"]).values_list("pk", flat=True))
    if not found:
        raise CommandError(f"no config is of the check {options['check']}")
    return found


def parse_until(options: dict[str, Any]) -> datetime | None:
    """Return the time of `--until`; None without it. Raises CommandError for a time that can't be read."""
    try:
        return deadlines.parse(options["until"]) if options["until"] else None
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--until {options['until']}: {error}") from error


def moves_of(verb: Callable[[], list[Move]]) -> list[Move]:
    """Return the moves that a verb makes. Raises CommandError when it refuses."""
    try:
        return verb()
    except (*REFUSALS, ValidationError) as error:
        message = "; ".join(error.messages) if isinstance(error, ValidationError) else told(error)
        raise CommandError(message) from error


def print_moves(command: BaseCommand, options: dict[str, Any], number: int, done: str, moves: Sequence[Move]) -> None:
    """Print the moves and how many configs were e.g. `paused` (`done`): as text, or as JSON with `--json`."""
    if options["json"]:
        rows = [
            {"digest": move.digest, "name": scrub(move.name), "from_node": move.source_node, "to_node": move.to_node}
            for move in moves
        ]
        command.stdout.write(json.dumps({"configs": number, "moves": rows}, indent=2))
        return
    for move in moves:
        command.stdout.write(
            f"{scrub(move.name)} {move.digest}: {move.source_node or 'nobody'} → {move.to_node or 'nobody'}"
        )
    command.stdout.write(f"{numbered(number, 'config')} {done}, {len(moves)} moved")
