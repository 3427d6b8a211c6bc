from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks import dispatcher
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib.words import numbered
from nodes.models import UnknownNode


class Command(BaseCommand):
    help = "Give configs to a node."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("config", nargs="+", help="a config's digest, its short ID or one of its check IDs")
        parser.add_argument("--to", required=True, metavar="NODE", help="the node that gets them")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ids = Config.objects.ids_of(options["config"])
            moves = dispatcher.reassign(ids, options["to"], actor="reassign")
        except (LookupError, UnknownNode, dispatcher.NotAccepting, dispatcher.NotDispatchable) as error:
            raise CommandError(str(error)) from error
        for move in moves:
            self.stdout.write(f"{scrub(move.name)} {move.digest}: {move.source_node or 'nobody'} → {move.to_node}")
        self.stdout.write(f"{numbered(len(moves), 'config')} reassigned")
