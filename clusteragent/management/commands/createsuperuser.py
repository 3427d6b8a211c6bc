"""manage.py createsuperuser: Django's, on record."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from acts.models import Act
from acts.recording import record
from checks.management.commandline import ActingCommand


class Command(ActingCommand, createsuperuser.Command):
    """Makes a user who may do everything, as Django's command does."""

    help = "Make a user of the admin who may do everything."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        createsuperuser.Command.add_arguments(self, parser)

    def handle(self, *args: Any, **options: Any) -> None:
        before = set(User.objects.values_list("pk", flat=True))
        super().handle(*args, **options)
        for user in User.objects.filter(is_superuser=True).exclude(pk__in=before):
            record(Act.Verb.MAKE, f"user {user}", after={"superuser": True})
