import math
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from checks import pruning
from checks.management import commandline
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = "Delete what is older than its retention: moves, plans, edits, events, acts, nodes, sessions, tokens and failures."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--dry-run", help="only show how much would be deleted")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        connection.ensure_connection()
        deleted = "would be deleted" if options["dry_run"] else "deleted"
        try:
            with commandline.trial(options):
                pruned = pruning.prune(math.inf)
        except pruning.NotPruned as error:
            self._tell(error.pruned, deleted)
            raise CommandError(str(error)) from error
        self._tell(pruned, deleted)
        if not any(pruned.values()):
            self.stdout.write(f"Nothing {deleted}: nothing is older than its retention.")

    def _tell(self, pruned: Any, deleted: str) -> None:
        for kind, number in pruned.items():
            if number:
                self.stdout.write(f"{number} {kind} {deleted}")
