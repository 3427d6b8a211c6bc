"""`manage.py runworker`: the leader's qcluster, which only runagent starts."""

import os
from typing import Any

from django.core.management.base import CommandParser
from django_q.management.commands import qcluster

from clusteragent.lib import processes


class Command(qcluster.Command):  # type: ignore[misc]
    help = "Run the tasks of a leader's term and end with the leader. Started by runagent."
    requires_system_checks = ()  # the leader passed them

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--parent", type=int, required=True, metavar="PID", help="of the leader")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the queue named by Q_CLUSTER_NAME until the parent ends."""
        # By SIGKILL: qcluster's own end waits for a worker that may never answer. The next leader does again what was not
        # committed. Likewise for the processes that it forks.
        processes.end_with(options["parent"])
        os.register_at_fork(after_in_child=lambda: processes.end_with(os.getppid()))
        super().handle(*args, **options)
