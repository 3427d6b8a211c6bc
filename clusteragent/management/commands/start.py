"""`manage.py start`: everything on this machine, in the foreground. `make run` calls it."""

from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection

from clusteragent import launch, roles, web
from clusteragent.greeting import greeting


class Command(BaseCommand):
    help = "Start what a first run needs, the database included, and stop it all on Ctrl-C."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Start everything, print the greeting, and wait until interrupted. Raises SystemExit when something can't start."""
        try:
            with suppress(KeyboardInterrupt), launch.launched(self._say) as supervisor:
                # Not before: it did not start until now.
                roles.log_start("all", ", ".join(web.listening(server) for server in web.servers().values()))
                launch.wait_until_settled()
                self.stdout.write(greeting())
                self.stdout.flush()
                connection.close()
                supervisor.wait()
        except launch.LaunchError as error:
            raise SystemExit(str(error)) from error
        self.stdout.write("Everything is stopped.")

    def _say(self, step: str) -> None:
        self.stdout.write(step)
        self.stdout.flush()
