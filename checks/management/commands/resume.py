from typing import Any

from django.core.management.base import CommandParser

from checks.dispatcher import deciding
from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models.orders import Pause


class Command(ActingCommand):
    help = "Resume paused configs: place them again. Configs without an eligible node dangle."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", nargs="*")
        commandline.add(parser, "--check", "--dry-run", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids = commandline.ids_of_check(options)
        paused = list(Pause.objects.filter(config__in=ids).values_list("config_id", flat=True))
        plan = commandline.plan_of(options, lambda: deciding.resume(paused))
        commandline.print_moves(self, options, len(paused), "resumed", plan)
        if (left := set(ids) - set(paused)) and not options["json"]:
            self.stdout.write(f"{forecasts.not_ordered(left, 'paused')}.")
