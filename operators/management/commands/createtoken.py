"""manage.py createtoken: create a token for the operators' API."""

import json
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib import deadlines
from operators import bounds, tokens
from operators.roles import Role


class Command(ActingCommand):
    """Prints the token, or with --json an object with user, roles, expires and token, and what it is bound to."""

    help = "Make a token for the operators' API. It is written once, to standard output, and only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="whose token it is: it may do what this user may")
        parser.add_argument(
            "--role", choices=Role.values, default="", help="create a missing user with this role, who can't log in"
        )
        parser.add_argument(
            "--expires",
            default="90d",
            metavar="TIME",
            help=f"{deadlines.HELP}; a number of days; or never (default: 90d)",
        )
        parser.add_argument("--for", dest="purpose", default="", metavar="WORDS", help="what it is for, shown with it")
        parser.add_argument(
            "--sources", metavar="PATTERNS", help="the sources that it may write, such as api:shop-*,admin"
        )
        parser.add_argument(
            "--checks", metavar="PATTERNS", help="the checks that it may steer, such as postgres*,team:shop"
        )
        parser.add_argument("--json", action="store_true", help="write a JSON object")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            expires = _expires(options["expires"])
            bound: dict[str, Any] = {name: _patterns(name, options[name]) for name in ("sources", "checks")}
            given = {name: options[name] for name in ("role", "purpose")}
            row, token = tokens.make(options["user"], expires=expires, **given, **bound)
        except ValidationError as error:
            raise CommandError(error.messages[0]) from error
        except (LookupError, ValueError) as error:
            raise CommandError(str(error)) from error
        until = row.expiry.isoformat(timespec="seconds") if row.expiry else None
        if options["json"]:
            roles = sorted(row.user.groups.values_list("name", flat=True))
            document = {"user": row.user.username, "roles": roles, "expires": until, "token": token} | bounds.told(row)
            self.stdout.write(json.dumps(document))
            return
        self.stdout.write(token)
        bounded = f", bound to {told}" if (told := bounds.in_words(row)) else ""
        self.stderr.write(f"Token of {row.user.username}, until {until or 'revoked'}{bounded}. It is not shown again.")


def _patterns(name: str, text: str | None) -> list[str]:
    if text is None:
        return []
    read = bounds.patterns_of_sources if name == "sources" else bounds.patterns_of_checks
    if found := read(text):
        return found
    # A variable of a script that is empty would make a token that is not bound.
    raise ValueError(f"--{name} names nothing: leave it out for a token that is not bound")


def _expires(text: str) -> datetime | None:
    """When the token ends; None for `never`. A number alone is of days."""
    if text == "never":
        return None
    return commandline.parse_until({"expires": f"{text}d" if text.isdecimal() else text}, "expires")
