"""`clusteragent operators`: the web server of operators."""

from django.core.management.base import CommandParser

from clusteragent.management.commands import serve


class Command(serve.Command):
    help = "Serve operators over TLS: the admin, the operators' API and metrics."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.set_defaults(port="operators")
