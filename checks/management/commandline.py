"""What the commands that steer configs share: which configs, until when, and what moved."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks import plans
from checks.dispatcher import REFUSALS, Decision, told
from checks.models import Config, Plan
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines

ACTOR = "command line"


def add_configs(parser: CommandParser, *, nargs: str = "+") -> None:
    parser.add_argument(
        "config", nargs=nargs, metavar="CHECK_ID", help="one of a config's check IDs, its digest or its short ID"
    )


def add_json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def add_dry_run(parser: CommandParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only show what would move")


def add_order(parser: CommandParser) -> None:
    """What is plan_of of them: until when, and why."""
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


def parse_until(options: dict[str, Any]) -> datetime | None:
    """When what is plan_of ends, if it does."""
    try:
        return deadlines.parse(options["until"]) if options["until"] else None
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--until {options['until']}: {error}") from error


def plan_of(options: dict[str, Any], decide: Callable[[], Decision], *, actor: str = ACTOR) -> Plan:
    """The plan of what is decided, applied, or in a dry run only drafted. Raises CommandError where it can't be done."""
    try:
        if options["dry_run"]:
            return plans.drafted(decide(), author=actor)
        return plans.order(decide, actor=actor)[0]
    except (*REFUSALS, ValidationError) as error:
        message = "; ".join(error.messages) if isinstance(error, ValidationError) else told(error)
        raise CommandError(message) from error
    except plans.StalePlan as stale:
        raise CommandError(f"nothing was done, since meanwhile something changed: {stale}") from stale


def print_moves(
    command: BaseCommand, options: dict[str, Any], number: int, done: str, plan: Plan | None = None
) -> None:
    """Say how many configs it was, or would be, done to, and what moved. Raises CommandError where not all was done."""
    is_dry = options.get("dry_run", False)
    moves = moves_of(plan, is_dry=is_dry) if plan else []
    if options["json"]:
        document = {"configs": number, "moves": [_row(move) for move in moves]} | ({"dry_run": True} if is_dry else {})
        command.stdout.write(json.dumps(document, indent=2))
    else:
        for move in moves:
            command.stdout.write(line(move))
        configs = f"{number} config{'' if number == 1 else 's'}"
        would = "would be " if is_dry else ""
        command.stdout.write(f"{configs} {would}{done}, {len(moves)} {'would move' if is_dry else 'moved'}")
    if plan and plan.outcome:
        raise CommandError(plan.outcome)


def moves_of(plan: Plan, *, is_dry: bool) -> list[dict[str, Any]]:
    """The moves that a plan made, or in a dry run would make."""
    moves: list[dict[str, Any]] = plan.moves if is_dry else plan.moves[: plan.moved]
    return moves


def line(move: dict[str, Any]) -> str:
    """A move for people."""
    source, to = move["from_node"] or "nobody", move["to_node"] or "nobody"
    return f"{scrub(move['name'])} {move['digest']}: {source} → {to}"


def _row(move: dict[str, Any]) -> dict[str, Any]:
    return {
        "digest": move["digest"],
        "name": scrub(move["name"]),
        "from_node": move["from_node"],
        "to_node": move["to_node"],
    }
