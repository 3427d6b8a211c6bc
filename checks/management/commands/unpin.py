from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import dispatcher
from checks.management import commandline
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = "Remove the pins of configs. They stay where they are."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            unpinned = dispatcher.unpin(commandline.ids(options["config"]))
        except dispatcher.NotTheirs as error:
            raise CommandError(str(error)) from error
        commandline.print_moves(self, options, unpinned, "unpinned")
