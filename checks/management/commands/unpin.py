from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks import dispatcher
from checks.management import steering


class Command(BaseCommand):
    help = "Release configs from their pins. They stay where they are."

    def add_arguments(self, parser: CommandParser) -> None:
        steering.add_configs(parser)
        steering.add_answer(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        steering.tell(self, options, dispatcher.unpin(steering.ids(options["config"])), "unpinned")
