"""`clusteragent migrate`: Django's command, and the first operator."""

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connection

from clusteragent import roles, upgrade
from clusteragent.lib import credentials

# Options of who wants something else than the newest schema. Django makes databases of tests with the last.
_OTHER = "app_label", "check_unapplied", "plan", "fake", "fake_initial", "prune", "run_syncdb"


class Command(migrate.Command):
    help = "Bring the database's schema up to date, and make the first operator if there is none."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="for a database that does not answer yet"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate as replicas do that start at the same time: one after the other. Raises CommandError."""
        if not any(options[name] for name in _OTHER):
            roles.log_start("migrate")
        _wait(options["wait"])
        if any(options[name] for name in _OTHER):
            super().handle(*args, **options)
            return
        if not options["skip_checks"]:
            self.check(databases=[options["database"]])
        try:
            upgrade.upgrade(options["verbosity"])
        except (upgrade.DatabaseError, credentials.CredentialsError) as error:
            raise CommandError(str(error)) from error


def _wait(seconds: float) -> None:
    """Wait until the database answers. After so many seconds whoever uses it says what is wrong."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connection.ensure_connection()
        except OperationalError:
            time.sleep(0.2)
        else:
            return
