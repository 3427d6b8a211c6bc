from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.wire import integrations


class Command(BaseCommand):
    help = (
        "Add names to the list of known integrations; similar names of checks get a warning. A path is an agent's conf.d or"
        " checks.d, a checkout of integrations, or its requirements-agent-release.txt."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            new = integrations.learn(name for path in options["paths"] for name in integrations.found_in(path))
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        for name in new:
            self.stdout.write(f"learned: {name}")
        self.stdout.write(f"{len(new)} learned, {len(integrations.known())} known")
