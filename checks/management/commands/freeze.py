from typing import Any

from django.core.management.base import CommandParser

from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import freezes


class Command(ActingCommand):
    help = "Balance nothing automatically, until `--until` or until `thaw`. Rules, drains and dead nodes still move configs."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--until", "--note", "--dry-run", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        until = commandline.parse_until(options)
        if options["dry_run"]:
            commandline.show_forecast(self, options, lambda: forecasts.freeze(until))
            return
        made = freezes.freeze(actor=commandline.actor(), until=until, note=options["note"])
        document = {"id": made.pk, "until": made.until.isoformat() if made.until else None, "note": made.note}
        commandline.answer(self, options, document, [f"Balancing is {made}."])
