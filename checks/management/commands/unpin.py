from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import dispatcher
from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = "Remove the pins of configs. They stay where they are."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", "--json")
        commandline.add(parser, "--dry-run", help="only show what would follow")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids = commandline.ids(options["config"])
        if options["dry_run"]:
            commandline.show_forecast(self, options, lambda: forecasts.unpin(ids))
            return
        try:
            unpinned = dispatcher.unpin(ids)
        except dispatcher.NotTheirs as error:
            raise CommandError(str(error)) from error
        commandline.print_moves(self, options, unpinned, "unpinned")
        if not (unpinned or options["json"]):
            self.stdout.write(f"{forecasts.not_ordered(ids, 'pinned')}.")
