"""manage.py createtoken: create a token for the operators' API."""

import json
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib import deadlines
from clusteragent.lib.words import listed, utc
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
        commandline.add(parser, "--dry-run", help="only say which token would be made")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            expires = _expires(options["expires"])
            bound: dict[str, Any] = {name: _patterns(name, options[name]) for name in ("sources", "checks")}
            given = {name: options[name] for name in ("role", "purpose")}
            is_new = not User.objects.filter(username=options["user"]).exists()
            with commandline.trial(options):
                row, token = tokens.make(options["user"], expires=expires, **given, **bound)
                document, words = _told(row, is_new=is_new)
        except ValidationError as error:
            raise CommandError(error.messages[0]) from error
        except (LookupError, ValueError) as error:
            raise CommandError(str(error)) from error
        is_dry = options["dry_run"]
        if options["json"]:
            self.stdout.write(json.dumps(document | ({"dry_run": True} if is_dry else {"token": token})))
        elif is_dry:
            self.stdout.write(f"It would make a token of {words}.")
        else:
            self.stdout.write(token)
            self.stderr.write(f"Token of {words}. It is not shown again.")


def _told(row: Any, *, is_new: bool) -> tuple[dict[str, Any], str]:
    """What is known of a token, as JSON data and in words."""
    until = row.expiry.isoformat(timespec="seconds") if row.expiry else None
    roles = sorted(row.user.groups.values_list("name", flat=True))
    bounded = f", bound to {bound}" if (bound := bounds.in_words(row)) else ""
    end = utc(row.expiry) if row.expiry else "revoked"
    document = {"user": row.user.username, "roles": roles, "expires": until, "user_is_new": is_new} | bounds.told(row)
    made = f", a new user with the role {listed(roles)}" if is_new else ""
    return document, f"{row.user.username}{made}, until {end}{bounded}"


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
