"""`clusteragent agents`: the web server of node agents."""

from django.core.management.base import CommandParser

from clusteragent.management.commands import serve


class Command(serve.Command):
    help = "Serve node agents, and local routes, over TLS."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(port="agents")
