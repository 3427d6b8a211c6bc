import sys
from pathlib import Path
from typing import Any, NamedTuple

from django.core.management.base import CommandError, CommandParser

from checks.adoption import importing
from checks.adoption.importing import NotEmpty
from checks.adoption.states import UnreadableState
from checks.dispatcher import StalePlan, described
from checks.explain.aftermath import Moving, titled
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import Config
from clusteragent.lib.words import natural
from nodes.models import Node


class Command(ActingCommand):
    help = (
        "Read what exportstate wrote into this database: configs, orders, rules, nodes, costs, and who runs what. Refuses a "
        "database that has something, unless --merge is given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="what exportstate wrote, or - for standard input")
        parser.add_argument(
            "--merge", action="store_true", help="also into a database that has something; what is there stays"
        )
        commandline.add(parser, "--json")
        commandline.add(parser, "--dry-run", help="only show what would come, and where configs would run")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        is_piped = options["file"] == commandline.STANDARD
        place = "standard input" if is_piped else str(options["file"])
        try:
            found = importing.read(sys.stdin.buffer.read() if is_piped else options["file"].read_bytes())
            with commandline.trial(options):
                before = _state() if options["dry_run"] else None
                numbers = importing.load(found, actor=commandline.actor(), merge=options["merge"])
                follows = _differences(before, _state()) if before else []
        except NotEmpty as error:
            raise CommandError(f"{error}: give --merge to add what is missing") from error
        except OSError as error:
            raise CommandError(f"{place}: {error.strerror or error}") from error
        except UnreadableState as error:
            raise CommandError(f"{place}: {error}") from error
        except StalePlan as stale:
            raise CommandError(f"something changed meanwhile, import again: {described(stale)}") from stale
        counts = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
        document = {"file": place, "rows": numbers} | commandline.as_told(options)
        if follows:
            document["would"] = follows
        would = " would be here then" if options["dry_run"] else ""
        commandline.answer(self, options, document, [*follows, f"{place}: {counts}{would}"])


class _State(NamedTuple):
    """Who runs what, {config's id: node's name, or nobody}, and the names of all nodes."""

    owners: dict[int, str]
    nodes: set[str]


def _state() -> _State:
    owners = Config.objects.order_by("pk").values_list("pk", "assignment__node__name")
    return _State({pk: node or "nobody" for pk, node in owners}, set(Node.objects.values_list("name", flat=True)))


def _differences(before: _State, after: _State) -> list[str]:
    """What is new, or runs elsewhere, a line each. Call it while it is so."""
    nodes = [f"node {name}: new" for name in sorted(after.nodes - before.nodes, key=natural)]
    moving = [
        Moving(pk, "", before.owners.get(pk, "new"), node)
        for pk, node in after.owners.items()
        if before.owners.get(pk) != node
    ]
    return [*nodes, *(f"{title}: {one.source} → {one.to}" for one, title in titled(moving))]
