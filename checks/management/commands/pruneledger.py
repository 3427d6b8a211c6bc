from typing import Any

from django.core.management.base import BaseCommand

from checks.edits import Edit
from checks.models import Move, Plan
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Node, NodeEvent


class Command(BaseCommand):
    help = "Delete moves, plans, edits and node events older than the retention, and nodes lost for longer than theirs."

    def handle(self, *args: Any, **options: Any) -> None:
        before = ago(conf.LEDGER_RETENTION)
        numbers = (Move.objects.prune(before), Plan.objects.prune(before), Edit.objects.prune(before))
        self.stdout.write("{} moves, {} plans, {} edits deleted".format(*numbers))
        self.stdout.write(f"{NodeEvent.objects.prune(before)} node events deleted")
        self.stdout.write(f"{Node.objects.prune()} lost nodes forgotten")
