import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.management import commandline
from checks.models import freezes


class Command(BaseCommand):
    help = "End a freeze: balance automatically again."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not (ended := freezes.thaw(actor=commandline.ACTOR)):
            raise CommandError("balancing is not frozen")
        left = freezes.why_off()
        if options["json"]:
            self.stdout.write(json.dumps({"ended": ended, "still_off": left}))
        else:
            self.stdout.write(
                f"The freeze is over, but nothing is balanced: {left}." if left else "The freeze is over."
            )
