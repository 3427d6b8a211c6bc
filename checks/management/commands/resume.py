from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.dispatcher import deciding
from checks.management import steering
from checks.models.orders import Pause


class Command(BaseCommand):
    help = "Give paused configs to nodes again. What finds none dangles."

    def add_arguments(self, parser: CommandParser) -> None:
        steering.add_configs(parser, nargs="*")
        parser.add_argument("--check", metavar="NAME", help="all configs of this check")
        steering.add_dry_run(parser)
        steering.add_answer(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids = steering.ids_of_check(options)
        paused = list(Pause.objects.filter(config__in=ids).values_list("config_id", flat=True))
        plan = steering.ordered(options, lambda: deciding.resume(paused))
        steering.tell(self, options, len(paused), "resumed", plan)
