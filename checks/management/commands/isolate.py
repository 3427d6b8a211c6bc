import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.dispatcher import costs, isolation


class Command(BaseCommand):
    help = "Keep a check, with its config's other checks, alone on its node until it is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("check_id", metavar="CHECK_ID")
        parser.add_argument("--note", default="", help="the reason, shown with the isolation")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        costs.measure()
        answer = isolation.isolate(options["check_id"], actor="command line", note=options["note"])
        if options["json"]:
            self.stdout.write(json.dumps(answer._asdict()))
        elif answer.is_isolated:
            self.stdout.write(f"{answer.check_id} is alone on {answer.check_node}")
        if not answer.is_isolated:
            raise CommandError(f"{answer.check_id} is not isolated: {answer.reason}")
