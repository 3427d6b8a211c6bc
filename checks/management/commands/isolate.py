from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.dispatcher import costs, deciding
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.plans import isolation


class Command(ActingCommand):
    help = "Keep a check, with its config's other checks, alone on its node until it is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("check_id", metavar="CHECK_ID", help="or the title, digest or short ID of its config")
        commandline.add(parser, "--note", "--dry-run", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self.show(options)
            return
        [config_id] = commandline.ids([options["check_id"]])
        costs.measure()
        answer = isolation.isolate_config(
            config_id, options["check_id"], actor=commandline.actor(), note=options["note"]
        )
        lines = [f"{answer.check_id} is alone on {answer.check_node}"] if answer.is_isolated else []
        commandline.answer(self, options, answer._asdict(), lines)
        if not answer.is_isolated:
            raise CommandError(f"{answer.check_id} is not isolated: {answer.reason}")

    def show(self, options: dict[str, Any]) -> None:
        """Print what would move, by the last measured costs."""
        [config_id] = commandline.ids([options["check_id"]])
        plan = commandline.plan_of(options, lambda: deciding.isolate([config_id], note=options["note"]))
        commandline.print_moves(self, options, 1, "isolated", plan)
