from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.explain import exporting
from checks.management import commandline
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = (
        "Write the whole state as JSON, configs with their secrets, orders, nodes: to a new file that only its owner may read, "
        "or with - to standard output."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="a new file, or -")
        commandline.add(parser, "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        is_printed = options["file"] == commandline.STANDARD
        place = "standard output" if is_printed else str(options["file"])
        try:
            numbers = self._print() if is_printed else exporting.export(options["file"])
        except OSError as error:
            raise CommandError(f"{place}: {error.strerror or error}") from error
        counts = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
        commandline.answer(self, options, {"file": place, "rows": numbers}, [f"{place}: {counts}"])

    def _print(self) -> dict[str, int]:
        """Write the state to standard output, and let all else that this command says follow to standard error."""
        state, self.stdout = self.stdout, self.stderr
        state.ending = ""
        numbers = exporting.write(state)
        state.flush()
        return numbers
