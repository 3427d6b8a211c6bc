import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.adoption import importing
from checks.adoption.importing import NotEmpty
from checks.adoption.states import UnreadableState
from checks.dispatcher import StalePlan, described
from checks.management import commandline
from checks.management.commandline import ActingCommand


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
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        is_piped = options["file"] == commandline.STANDARD
        place = "standard input" if is_piped else str(options["file"])
        try:
            found = importing.read(sys.stdin.buffer.read() if is_piped else options["file"].read_bytes())
            numbers = importing.load(found, actor=commandline.actor(), merge=options["merge"])
        except NotEmpty as error:
            raise CommandError(f"{error}: give --merge to add what is missing") from error
        except OSError as error:
            raise CommandError(f"{place}: {error.strerror or error}") from error
        except UnreadableState as error:
            raise CommandError(f"{place}: {error}") from error
        except StalePlan as stale:
            raise CommandError(f"something changed meanwhile, import again: {described(stale)}") from stale
        counts = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
        commandline.answer(self, options, {"file": place, "rows": numbers}, [f"{place}: {counts}"])
