"""manage.py breakglass: let somebody in by a password for an hour, as an admin, while nobody can log in otherwise."""

import secrets
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import escape_controls
from operators import identities
from operators.provider import Denied

# 128 bits, in words that can be read over a phone: no `l`, `1`, `o` or `0`.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
LENGTH = 26


class Command(ActingCommand):
    """Prints the password alone to standard output."""

    help = (
        "Let an admin in by a password for an hour, also where CLUSTERAGENT_LOCAL_LOGIN is off and the login's provider is away."
        " The password is written once. Calling it again makes another one, for another hour."
    )
    refusals = (Denied,)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--user",
            default=identities.BREAKGLASS,
            metavar="NAME",
            help=f"the name to log in with (default: {identities.BREAKGLASS})",
        )
        commandline.add(parser, "--dry-run", help="only say who would be let in")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        password = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        try:
            with commandline.trial(options):
                ends_at = identities.let_in(options["user"], password)
        except Denied as error:
            raise CommandError(str(error)) from error
        user, until = escape_controls(options["user"]), f"{ends_at:%Y-%m-%d %H:%M} UTC"
        if options["dry_run"]:
            self.stdout.write(f"User {user} would be an admin, and could log in with a new password until {until}.")
            return
        self.stdout.write(password)
        self.stderr.write(f"User {user} may log in with it until {until}, and is out then.")
