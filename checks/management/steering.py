"""What the commands that steer configs share: which configs, until when, and what moved."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models.functions import Now

from checks.dispatcher import told
from checks.models import Config, Move
from checks.previews import REFUSALS
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from nodes.models import Hearing

ACTOR = "command line"


def add_configs(parser: CommandParser, *, nargs: str = "+") -> None:
    parser.add_argument(
        "config", nargs=nargs, metavar="CHECK_ID", help="one of a config's check IDs, its digest or its short ID"
    )


def add_answer(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def add_order(parser: CommandParser) -> None:
    """What is ordered of them: until when, and why."""
    parser.add_argument("--until", metavar="TIME", default="", help=deadlines.HELP.replace("%", "%%"))
    parser.add_argument("--note", default="", help="why, for those who find it so")


def ids(names: Sequence[str]) -> list[int]:
    """The configs with these digests, check IDs or short IDs."""
    try:
        return sorted(set(Config.objects.ids_of(names)))
    except LookupError as error:
        raise CommandError(str(error)) from error


def ids_of_check(options: dict[str, Any]) -> list[int]:
    """The configs that are named, or all of the check that is."""
    if bool(options["config"]) == bool(options["check"]):
        raise CommandError("name check IDs, or a check with --check")
    if not options["check"]:
        return ids(options["config"])
    found = list(Config.objects.dispatchable().filter(name=options["check"]).values_list("pk", flat=True))
    if not found:
        raise CommandError(f"no config is of the check {options['check']}")
    return found


def end(options: dict[str, Any]) -> datetime | None:
    """When what is ordered ends, if it does."""
    now = Hearing.objects.annotate(now=Now()).values_list("now", flat=True).get()
    try:
        return deadlines.parse(options["until"], now) if options["until"] else None
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--until {options['until']}: {error}") from error


def ordered(verb: Callable[[], list[Move]]) -> list[Move]:
    """What a verb moved."""
    try:
        return verb()
    except (*REFUSALS, ValidationError) as error:
        message = "; ".join(error.messages) if isinstance(error, ValidationError) else told(error)
        raise CommandError(message) from error


def tell(command: BaseCommand, options: dict[str, Any], number: int, done: str, moves: Sequence[Move]) -> None:
    """Say how many configs it was done to, and what moved."""
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
    command.stdout.write(f"{number} config{'' if number == 1 else 's'} {done}, {len(moves)} moved")
