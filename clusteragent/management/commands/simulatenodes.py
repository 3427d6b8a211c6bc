"""`manage.py simulatenodes`: simulated node agents; `python -m simulation` does the same with less memory."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from simulation import command
from simulation.client import SimulationError


class Command(BaseCommand):
    help = command.DESCRIPTION
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        command.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Simulate until interrupted. Raises CommandError when the server refuses."""
        try:
            command.simulate(options)
        except SimulationError as error:
            raise CommandError(str(error), returncode=2) from error
