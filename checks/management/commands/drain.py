from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.dispatcher import deciding
from checks.management import commandline
from clusteragent.lib.words import plain_count
from nodes.models import Node


class Command(BaseCommand):
    help = "Drain nodes: cordon them, and move their configs away a few at a time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", help="a node's name")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--undo", action="store_true", help="uncordon the nodes")
        what.add_argument("--dry-run", action="store_true", help="only show what would move, and where to")
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        names = sorted(set(options["node"]))
        changed, moves = self.uncordon(names) if options["undo"] else self.drain(names, options)
        done = "uncordoned" if options["undo"] else "would be drained" if options["dry_run"] else "drained"
        document = {"nodes": names, "changed": changed} | ({"moves": moves} if options["dry_run"] else {})
        lines = [*map(commandline.line, moves), f"{plain_count(changed, 'node')} {done}"]
        commandline.answer(self, options, document, lines)

    def drain(self, names: list[str], options: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
        """Drain nodes. Return how many of them change, and in a dry run the moves that it would make."""
        draining = Node.objects.filter(name__in=names, draining=True, schedulable=False).count()
        plan = commandline.plan_of(options, lambda: deciding.drain(names))
        return len(names) - draining, plan.moves if options["dry_run"] else []

    def uncordon(self, names: list[str]) -> tuple[int, list[dict[str, Any]]]:
        """Uncordon nodes. Return how many of them changed, and no moves. Raises CommandError for an unknown node."""
        nodes = Node.objects.known().filter(name__in=names)
        if unknown := sorted(set(names) - set(nodes.values_list("name", flat=True))):
            raise CommandError(f"node {unknown[0]} is unknown")
        return nodes.cordon(schedulable=True, actor=commandline.ACTOR), []
