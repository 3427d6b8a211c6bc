"""manage.py unlock: let everybody who is locked out log in again."""

from typing import Any

from checks.management.commandline import ActingCommand
from operators.models import FailedLogins


class Command(ActingCommand):
    """Prints whether any login had failed."""

    help = "Forget all failed logins, so that nobody is locked out."

    def handle(self, *args: Any, **options: Any) -> None:
        failed = FailedLogins.objects.unlock()
        self.stdout.write("All failed logins are forgotten." if failed else "No login had failed lately.")
