from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.management import commandline
from checks.models import freezes


class Command(BaseCommand):
    help = "End a freeze: balance automatically again."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        if not (ended := freezes.thaw(actor=commandline.ACTOR)):
            raise CommandError("balancing is not frozen")
        left = freezes.why_off()
        now = f"The freeze is over, but nothing is balanced: {left}." if left else "The freeze is over."
        commandline.answer(self, options, {"ended": ended, "still_off": left}, [now])
