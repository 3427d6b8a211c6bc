from typing import Any

from django.core.management.base import BaseCommand

from checks.models import Move
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Node, NodeEvent


class Command(BaseCommand):
    help = "Delete moves and node events older than the retention, and nodes lost for longer than theirs."

    def handle(self, *args: Any, **options: Any) -> None:
        before = ago(conf.LEDGER_RETENTION)
        self.stdout.write(f"{Move.objects.prune(before)} moves, {NodeEvent.objects.prune(before)} node events deleted")
        self.stdout.write(f"{Node.objects.prune()} lost nodes forgotten")
