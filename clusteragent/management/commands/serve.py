"""`manage.py serve`: one of the two web servers."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from clusteragent import roles, web
from clusteragent.lib import peer_options
from clusteragent.lib.credentials import CredentialsError


class Command(BaseCommand):
    help = "Serve node agents (and local routes) or operators, over TLS."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("port", choices=sorted(web.servers()), help="whom to serve")

    def handle(self, *args: Any, **options: Any) -> None:
        """Become the web server. Raises CommandError when it can't start."""
        server = web.servers()[options["port"]]
        roles.log_start(server.port, web.listening(server))
        peer_options.log_without_effect()
        try:
            web.serve(server)
        except (CredentialsError, web.Unavailable) as error:
            raise CommandError(str(error)) from error
