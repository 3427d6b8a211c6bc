"""`manage.py watchkubernetes`: the leader's watch of a Kubernetes cluster, which only runagent starts."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.explain import standing
from checks.models.map import NotLeader
from checks.sources.kubernetes.following import follow
from clusteragent.lib import processes


class Command(BaseCommand):
    help = "Dispatch what is annotated in a Kubernetes cluster, for a leader's term. Started by runagent."
    requires_system_checks = ()  # the leader passed them

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--parent", type=int, required=True, metavar="PID", help="of the leader")
        parser.add_argument("--term", type=int, required=True, metavar="N", help="of the leader")

    def handle(self, *args: Any, **options: Any) -> None:
        """Follow the cluster until the parent or its term ends."""
        # What was not committed the next leader does again.
        processes.end_with(options["parent"])
        try:
            follow(options["term"], standing.under)
        except NotLeader as error:
            sys.exit(str(error))
