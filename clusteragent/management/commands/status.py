"""`clusteragent status`: the first page in a terminal, and for other programs."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from checks.management import commandline
from clusteragent import webhook
from clusteragent.lib.database import unusable
from clusteragent.lib.words import duration
from operators.pages.now import Contents, snapshot

HEALTHY, NEEDS_SOMEBODY, NOT_HEALTHY = range(3)


class Command(BaseCommand):
    help = (
        "Say what the admin's first page says: whether all is well and what needs somebody. Exits with 0 if nothing does, "
        "with 1 if something does, and with 2 if the cluster is not healthy or the database can't be read."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the status. Exits with its code."""
        try:
            now = snapshot()
        except DatabaseError as error:
            why = unusable(error) or f"the database can't be read: {' '.join(str(error).split())}"
            sentence = f"Not healthy. {why[0].upper()}{why[1:]}"
            commandline.answer(self, options, {"healthy": False, "sentence": sentence, "needs": []}, [sentence])
            sys.exit(NOT_HEALTHY)
        needs = [webhook.told(alert) for alert in now.alerts]
        room = now.headroom.document if now.headroom else None
        document = {"healthy": now.is_healthy, "sentence": now.sentence, "headroom": room, "needs": needs}
        said = [now.room] if now.headroom and not now.headroom.is_short else []
        commandline.answer(self, options, document, [now.sentence, *filter(None, said), *_lines(now, needs)])
        sys.exit(_code(now))


def _lines(now: Contents, needs: list[dict[str, Any]]) -> list[str]:
    ages = [f" ({duration(alert.age)})" if alert.age else "" for alert in now.alerts]
    return [f"- {need['cause']}{age}" for need, age in zip(needs, ages, strict=True)]


def _code(now: Contents) -> int:
    if not now.is_healthy:
        return NOT_HEALTHY
    return NEEDS_SOMEBODY if now.alerts else HEALTHY
