from typing import Any

from django.core.management.base import CommandParser

from checks import dispatcher
from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import plain_count


class Command(ActingCommand):
    help = "Place dangling configs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="skip the warm-up and the limit of configs at once")
        commandline.add(parser, "--dry-run", help="only show what would follow")
        commandline.add(parser, "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            commandline.show_forecast(self, options, lambda: forecasts.redispatch(force=options["force"]))
            return
        moves = dispatcher.redispatch(force=options["force"], actor=commandline.actor())
        lines = [f"{move.shown}: to {move.to_node}" for move in moves]
        document = {"moves": [commandline.of_ledger(move) for move in moves]}
        commandline.answer(self, options, document, [*lines, f"{plain_count(len(moves), 'config')} placed"])
