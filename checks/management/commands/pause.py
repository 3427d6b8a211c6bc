from typing import Any

from django.core.management.base import CommandParser

from checks.dispatcher import deciding
from checks.management import commandline
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = "Pause configs: they run nowhere until `--until`, or until they are resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", nargs="*")
        commandline.add(parser, "--check", "--until", "--note", "--dry-run", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids, until = commandline.ids_of_check(options), commandline.parse_until(options)
        plan = commandline.plan_of(options, lambda: deciding.pause(ids, until=until, note=options["note"]))
        commandline.print_moves(self, options, len(ids), "paused", plan)
