"""manage.py unlock: let everybody who is locked out log in again."""

from typing import Any

from django.core.management.base import BaseCommand

from operators.models import FailedLogins


class Command(BaseCommand):
    """Prints how many counts were deleted."""

    help = "Forget all failed logins, so that nobody is locked out."

    def handle(self, *args: Any, **options: Any) -> None:
        gone, _ = FailedLogins.objects.all().delete()
        self.stdout.write(f"{gone} counters of failed logins forgotten")
