import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.management import commandline
from checks.models import freezes


class Command(BaseCommand):
    help = "Balance nothing automatically, until `--until` or until `thaw`. Rules, drains and dead nodes still move configs."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add_order(parser)
        commandline.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        made = freezes.freeze(actor=commandline.ACTOR, until=commandline.parse_until(options), note=options["note"])
        if options["json"]:
            end = made.until.isoformat() if made.until else None
            self.stdout.write(json.dumps({"id": made.pk, "until": end, "note": made.note}))
        else:
            self.stdout.write(f"Balancing is {made}.")
