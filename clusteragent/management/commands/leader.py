"""`manage.py leader`: the leader, its term and its last pass."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.models import ClusterStore
from clusteragent.lib import conf
from nodes.models import Hearing


class Command(BaseCommand):
    help = "The leader, its term, and when its last pass ended."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--pid", action="store_true", help="only the number of its process, if that is on this machine"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write leader, term and last pass; with --pid the process ID, or raise CommandError if it is on another machine."""
        store, hearing = ClusterStore.objects.get(), Hearing.objects.get()
        replica, _, pid = store.leader.rpartition(":")
        if not options["pid"]:
            self.stdout.write(f"{store.leader or 'nobody'}, term {store.term}, last pass {hearing.last_pass}")
        elif replica != conf.REPLICA:
            # On this machine that process ID belongs to another process, which the caller might kill.
            raise CommandError(f"the leader runs on {replica or 'no machine yet'}, not here ({conf.REPLICA})")
        else:
            self.stdout.write(pid)
