"""manage.py createtoken: create a token for the operators' API."""

import json
import re
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from checks.management.commandline import ActingCommand
from operators import bounds, tokens
from operators.roles import Role

DAYS = re.compile(r"([1-9][0-9]{0,3})d")


class Command(ActingCommand):
    """Prints the token, or with --json an object with user, roles, expires and token, and what it is bound to."""

    help = "Make a token for the operators' API. It is written once, to standard output, and only its hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="whose token it is: it may do what this user may")
        parser.add_argument(
            "--role", choices=Role.values, default="", help="create a missing user with this role, who can't log in"
        )
        parser.add_argument(
            "--expires", default="90d", metavar="DAYS", help="a number of days (default: 90d), or never"
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
            lasting = _lasting(options["expires"])
            bound: dict[str, Any] = {name: _patterns(name, options[name]) for name in ("sources", "checks")}
            given = {name: options[name] for name in ("role", "purpose")}
            row, token = tokens.make(options["user"], lasting=lasting, **given, **bound)
        except ValidationError as error:
            raise CommandError(error.messages[0]) from error
        except (LookupError, ValueError) as error:
            raise CommandError(str(error)) from error
        expires = row.expiry.isoformat(timespec="seconds") if row.expiry else None
        if options["json"]:
            roles = sorted(row.user.groups.values_list("name", flat=True))
            document = {"user": row.user.username, "roles": roles, "expires": expires, "token": token} | bounds.told(
                row
            )
            self.stdout.write(json.dumps(document))
            return
        self.stdout.write(token)
        bounded = f", bound to {told}" if (told := bounds.in_words(row)) else ""
        self.stderr.write(
            f"Token of {row.user.username}, until {expires or 'revoked'}{bounded}. It is not shown again."
        )


def _patterns(name: str, text: str | None) -> list[str]:
    if text is None:
        return []
    read = bounds.patterns_of_sources if name == "sources" else bounds.patterns_of_checks
    if found := read(text):
        return found
    # A variable of a script that is empty would make a token that is not bound.
    raise ValueError(f"--{name} names nothing: leave it out for a token that is not bound")


def _lasting(text: str) -> timedelta | None:
    if text == "never":
        return None
    days = DAYS.fullmatch(text)
    if days is None:
        raise ValueError(f"--expires is {text!r}, allowed is a number of days, such as 90d, or never")
    return timedelta(days=int(days[1]))
