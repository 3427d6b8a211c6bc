"""manage.py changepassword: Django's, on record."""

from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.core.management.base import CommandError, CommandParser

from acts.models import Act
from acts.recording import record
from checks.management.commandline import ActingCommand


class Command(ActingCommand, changepassword.Command):
    """Asks for the new password of a user, as Django's command does, by default of the one with the account's name."""

    help = "Give a user of the admin another password, which is asked for. Its sessions end."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        changepassword.Command.add_arguments(self, parser)

    def handle(self, *args: Any, **options: Any) -> Any:
        try:
            said = super().handle(*args, **options)
        except EOFError as error:
            raise CommandError("the new password is asked for: run it in a terminal") from error
        record(Act.Verb.CHANGE, f"login of user {options['username']}", after="by password, a new one")
        return said
