"""manage.py unlock: let everybody who is locked out log in again."""

from typing import Any

from django.core.management.base import CommandParser

from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import plain_count
from operators.models import FailedLogins


class Command(ActingCommand):
    """Prints whether any login had failed."""

    help = "Forget all failed logins, so that nobody is locked out."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--dry-run", help="only say whether there is something to forget")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with commandline.trial(options):
            failed = FailedLogins.objects.unlock()
        if not failed:
            self.stdout.write("No login has failed lately: there is nothing to forget.")
        elif options["dry_run"]:
            self.stdout.write(f"{plain_count(failed, 'count')} of failed logins would be forgotten.")
        else:
            self.stdout.write("All failed logins are forgotten.")
