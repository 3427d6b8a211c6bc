import math
from typing import Any

from django.core.management.base import CommandError
from django.db import connection

from checks import pruning
from checks.management.commandline import ActingCommand


class Command(ActingCommand):
    help = "Delete what is older than its retention: moves, plans, edits, events, acts, nodes, sessions, tokens and failures."

    def handle(self, *args: Any, **options: Any) -> None:
        connection.ensure_connection()
        try:
            pruned = pruning.prune(math.inf)
        except pruning.NotPruned as error:
            self._tell(error.pruned)
            raise CommandError(str(error)) from error
        self._tell(pruned)

    def _tell(self, pruned: Any) -> None:
        for kind, number in pruned.items():
            self.stdout.write(f"{number} {kind} deleted")
