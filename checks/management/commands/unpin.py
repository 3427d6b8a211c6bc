from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks import dispatcher
from checks.management import commandline


class Command(BaseCommand):
    help = "Remove the pins of configs. They stay where they are."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        commandline.print_moves(self, options, dispatcher.unpin(commandline.ids(options["config"])), "unpinned")
