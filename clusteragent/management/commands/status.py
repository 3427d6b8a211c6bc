"""`clusteragent status`: the first page in a terminal, and for other programs."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from checks.explain.alerts import Word
from checks.management import commandline
from clusteragent.lib.database import unusable
from clusteragent.lib.words import duration
from operators.pages.now import snapshot

# Exit codes.
CODES = {Word.HEALTHY: 0, Word.NEEDS_ATTENTION: 1, Word.NOT_HEALTHY: 2}


class Command(BaseCommand):
    help = (
        "Say what the admin's first page says: whether all is well and what needs somebody. Exits with 0 if nothing does, "
        "with 1 if the cluster needs attention, and with 2 if it is not healthy or the database can't be read."
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
            state = str(Word.NOT_HEALTHY)
            sentence = f"{state}. {why[0].upper()}{why[1:]}"
            commandline.answer(self, options, {"state": state, "sentence": sentence, "needs": []}, [sentence])
            sys.exit(CODES[Word.NOT_HEALTHY])
        said = [now.room] if now.headroom and not now.headroom.is_short else []
        ages = [f" ({duration(alert.age)})" if alert.age else "" for alert in now.alerts]
        document = now.document
        needs = [f"- {need['cause']}{age}" for need, age in zip(document["needs"], ages, strict=True)]
        commandline.answer(self, options, document, [now.sentence, *filter(None, said), *needs])
        sys.exit(CODES[now.word])
