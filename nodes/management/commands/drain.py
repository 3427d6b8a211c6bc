"""`manage.py drain`: cordon nodes and move their configs away, or undo it."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusteragent.lib.words import numbered
from nodes.models import Node


class Command(BaseCommand):
    help = "Cordon nodes, and let their configs move away bit by bit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", help="a node's name")
        parser.add_argument("--undo", action="store_true", help="uncordon them: they get configs again")
        parser.add_argument("--json", action="store_true", help="write JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drain or uncordon the nodes and write how many changed. Changes nothing and raises CommandError if one is unknown."""
        nodes = Node.objects.known().filter(name__in=options["node"])
        known = set(nodes.values_list("name", flat=True))
        if unknown := sorted(set(options["node"]) - known):
            raise CommandError(f"node {unknown[0]} is unknown")
        changed = nodes.cordon(schedulable=options["undo"], draining=not options["undo"], actor="command line")
        if options["json"]:
            self.stdout.write(json.dumps({"nodes": sorted(known), "changed": changed}))
        else:
            self.stdout.write(f"{numbered(changed, 'node')} {'uncordoned' if options['undo'] else 'drained'}")
