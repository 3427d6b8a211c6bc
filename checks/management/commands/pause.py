from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.dispatcher import deciding
from checks.management import steering


class Command(BaseCommand):
    help = "Let configs run nowhere, until then or until they are resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        steering.add_configs(parser, nargs="*")
        parser.add_argument("--check", metavar="NAME", help="all configs of this check")
        steering.add_order(parser)
        steering.add_dry_run(parser)
        steering.add_answer(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids, order = steering.ids_of_check(options), {"until": steering.end(options), "note": options["note"]}
        plan = steering.ordered(options, lambda: deciding.pause(ids, **order))
        steering.tell(self, options, len(ids), "paused", plan)
