"""Who leads."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from clusteragent import handler


class Command(BaseCommand):
    help = "The leader, its term, and when its last pass ended."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--pid", action="store_true", help="only the number of its process on its machine")

    def handle(self, *args: Any, **options: Any) -> None:
        status = handler.status()
        pid = status.leader.rpartition(":")[2]
        self.stdout.write(
            pid if options["pid"] else f"{status.leader}, term {status.term}, last pass {status.last_pass}"
        )
