from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.dispatcher import deciding
from checks.management import commandline


class Command(BaseCommand):
    help = "Let configs run nowhere, until then or until they are resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add_configs(parser, nargs="*")
        parser.add_argument("--check", metavar="NAME", help="all configs of this check")
        commandline.add_order(parser)
        commandline.add_dry_run(parser)
        commandline.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids, order = (
            commandline.ids_of_check(options),
            {"until": commandline.parse_until(options), "note": options["note"]},
        )
        plan = commandline.plan_of(options, lambda: deciding.pause(ids, **order))
        commandline.print_moves(self, options, len(ids), "paused", plan)
