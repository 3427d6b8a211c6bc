from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.wire import integrations


class Command(BaseCommand):
    help = (
        "Add to the names of checks that are known, of which others an edit away are warned of: those of an agent's conf.d or"
        " checks.d, of a checkout of integrations, or of its requirements-agent-release.txt."
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
