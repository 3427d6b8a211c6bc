import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.adoption import importing, outlook
from checks.adoption.importing import NotEmpty
from checks.adoption.states import UnreadableState
from checks.dispatcher import StalePlan, described
from checks.explain import objections, rehearsed
from checks.explain.objections import NotAccepted
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import natural
from nodes.models import Node


class Command(ActingCommand):
    help = (
        "Read what exportstate wrote into this database: configs, orders, rules, nodes, costs, and who runs what. Refuses a "
        "database that has something, unless --merge is given."
    )
    refusals = (NotEmpty,)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="what exportstate wrote, or - for standard input")
        parser.add_argument(
            "--merge", action="store_true", help="also into a database that has something; what is there stays"
        )
        commandline.add(parser, "--accept-no-node", "--accept-dangling", "--json")
        commandline.add(parser, "--dry-run", help="only show what would come, and where configs would run")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        is_piped = options["file"] == commandline.STANDARD
        place = "standard input" if is_piped else str(options["file"])
        try:
            found = importing.read(sys.stdin.buffer.read() if is_piped else options["file"].read_bytes())
            older = list(outlook.moved_since(found.time))
            with commandline.trial(options):
                if is_dry := options["dry_run"]:
                    before, accepted = rehearsed.read(with_due=True), {objections.DANGLING, objections.NO_NODE}
                else:
                    accepted = commandline.accepted(options)
                numbers = importing.load(found, actor=commandline.actor(), merge=options["merge"], accepted=accepted)
                more, follows = self.foretell(before, older) if is_dry else ({}, older)
        except NotEmpty as error:
            raise CommandError(f"{error}: give --merge to add what is missing") from error
        except OSError as error:
            raise CommandError(f"{place}: {error.strerror or error}") from error
        except UnreadableState as error:
            raise CommandError(f"{place}: {error}") from error
        except NotAccepted as refusal:
            raise commandline.unaccepted(refusal) from refusal
        except StalePlan as stale:
            raise CommandError(f"something changed meanwhile, import again: {described(stale)}") from stale
        counts = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
        document = {"file": place, "rows": numbers} | commandline.as_told(options) | more
        would = " would be here then" if is_dry else ""
        commandline.answer(self, options, document, [*follows, f"{place}: {counts}{would}"])

    def foretell(self, before: rehearsed.Map, older: list[str]) -> tuple[dict[str, Any], list[str]]:
        """What is new and runs elsewhere now that all is written, for programs and for people."""
        told = rehearsed.since(before, "Import", with_due=True)
        told = told._replace(sentences=[*older, *told.sentences])
        nodes = sorted({*Node.objects.known().values_list("name", flat=True)} - {*before.nodes}, key=natural)
        document, lines = commandline.foretold(told)
        return {"new_nodes": nodes} | document, [*(f"node {name}: new" for name in nodes), *lines]
