import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.dispatcher import costs, deciding
from checks.management import commandline
from checks.plans import isolation


class Command(BaseCommand):
    help = "Leave a check alone on its node, with the other instances of its config, until it is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("check_id", metavar="CHECK_ID")
        parser.add_argument("--note", default="", help="why, for those who find it alone")
        commandline.add_dry_run(parser)
        commandline.add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self.show(options)
            return
        costs.measure()
        answer = isolation.isolate(options["check_id"], actor="command line", note=options["note"])
        if options["json"]:
            self.stdout.write(json.dumps(answer._asdict()))
        elif answer.is_isolated:
            self.stdout.write(f"{answer.check_id} is alone on {answer.check_node}")
        if not answer.is_isolated:
            raise CommandError(f"{answer.check_id} is not isolated: {answer.reason}")

    def show(self, options: dict[str, Any]) -> None:
        """What would move, by the costs last measured."""
        config_id = isolation.config_of(options["check_id"])
        if config_id is None:
            raise CommandError(f"no config has the check ID {options['check_id']}")
        plan = commandline.plan_of(options, lambda: deciding.isolate([config_id], note=options["note"]))
        commandline.print_moves(self, options, 1, "isolated", plan)
