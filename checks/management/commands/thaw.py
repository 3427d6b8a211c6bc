from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import freezes


class Command(ActingCommand):
    help = "End a freeze: balance automatically again."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--json")
        commandline.add(parser, "--dry-run", help="only show what would follow")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not freezes.Freeze.objects.in_force().exists():
            raise CommandError("balancing is not frozen")
        if options["dry_run"]:
            commandline.show_forecast(self, options, forecasts.thaw)
            return
        if not (ended := freezes.thaw(actor=commandline.actor())):
            raise CommandError("balancing is not frozen any more")
        left = freezes.why_off()
        now = f"The freeze is over, but nothing is balanced: {left}." if left else "The freeze is over."
        commandline.answer(self, options, {"ended": ended, "still_off": left}, [now])
