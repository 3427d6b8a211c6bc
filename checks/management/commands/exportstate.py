from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.explain import exporting
from checks.management import commandline


class Command(BaseCommand):
    help = (
        "Write the whole state to a JSON file that only its owner may read: configs with their secrets, orders, nodes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="a new file")
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            numbers = exporting.export(options["file"])
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror or error}") from error
        counts = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
        document = {"file": str(options["file"]), "rows": numbers}
        commandline.answer(self, options, document, [f"{options['file']}: {counts}"])
