"""`manage.py runagent`: campaign for leadership, and run the background pass while this replica leads."""

from typing import Any

from django.core.management.base import BaseCommand

from clusteragent import roles
from clusteragent.handler import Handler
from clusteragent.lib import peer_options


class Command(BaseCommand):
    help = "Campaign for leadership; the leader runs the background pass. Ends on SIGTERM or SIGINT."

    def handle(self, *args: Any, **options: Any) -> None:
        roles.log_start("runagent")
        peer_options.log_without_effect()
        Handler().run()
