from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import dispatcher
from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models.orders import Isolation


class Command(ActingCommand):
    help = "End the isolation or quarantine of a check: its node may be given other checks again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("check_id", metavar="CHECK_ID", help="or the title, digest or short ID of its config")
        commandline.add(parser, "--json")
        commandline.add(parser, "--dry-run", help="only show what would follow")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        check_id = options["check_id"]
        [config_id] = commandline.ids([check_id])
        if not Isolation.objects.filter(config=config_id).exists():
            raise CommandError(f"{check_id} is not isolated")
        if options["dry_run"]:
            commandline.show_forecast(self, options, lambda: forecasts.release([config_id]))
            return
        if not dispatcher.release([config_id]):
            raise CommandError(f"{check_id} is not isolated any more")
        commandline.answer(self, options, {"check_id": check_id}, [f"{check_id} is released"])
