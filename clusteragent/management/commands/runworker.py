"""`manage.py runworker`: the leader's qcluster, which only runagent starts."""

from typing import Any

from django.core.management.base import CommandParser
from django_q.management.commands import qcluster

from clusteragent.worker import end_with


class Command(qcluster.Command):  # type: ignore[misc]
    help = "Run the tasks of a leader's term and end with the leader. Started by runagent."
    requires_system_checks = ()  # the leader passed them

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--parent", type=int, required=True, metavar="PID", help="of the leader")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the queue named by Q_CLUSTER_NAME until the parent ends."""
        end_with(options["parent"])
        super().handle(*args, **options)
