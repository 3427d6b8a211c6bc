from typing import Any

from django.core.management.base import CommandParser

from checks import dispatcher
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import plain_count


class Command(ActingCommand):
    help = "Take all configs away from the nodes that expired."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--force",
            action="store_true",
            help="skip the hearing, the brake, and the check that other nodes can take the work",
        )
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        moves = dispatcher.expire_nodes(force=options["force"], actor=commandline.actor())
        for move in moves:
            self.stdout.write(f"{move.shown}: {move.source_node} expired")
        self.stdout.write(f"{plain_count(len(moves), 'config')} taken away")
