"""manage.py unlock: let everybody who is locked out log in again."""

from typing import Any

from checks.management.commandline import ActingCommand
from operators.models import FailedLogins


class Command(ActingCommand):
    """Prints how many counts were deleted."""

    help = "Forget all failed logins, so that nobody is locked out."

    def handle(self, *args: Any, **options: Any) -> None:
        gone = FailedLogins.objects.unlock()
        self.stdout.write(f"{gone} counters of failed logins forgotten")
