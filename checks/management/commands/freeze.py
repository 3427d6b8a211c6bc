import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.management import steering
from checks.models import freezes


class Command(BaseCommand):
    help = "Balance nothing automatically, until then or until `thaw`. Rules, drains and deaths of nodes still move checks."

    def add_arguments(self, parser: CommandParser) -> None:
        steering.add_order(parser)
        steering.add_answer(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        made = freezes.freeze(actor=steering.ACTOR, until=steering.end(options), note=options["note"])
        if options["json"]:
            end = made.until.isoformat() if made.until else None
            self.stdout.write(json.dumps({"id": made.pk, "until": end, "note": made.note}))
        else:
            self.stdout.write(f"Balancing is {made}.")
