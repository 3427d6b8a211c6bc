from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks.dispatcher import deciding
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import plain_count


class Command(ActingCommand):
    help = "Give configs to a node."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config")
        parser.add_argument("--to", required=True, metavar="NODE", help="the node that gets them")
        commandline.add(parser, "--dry-run")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        ids, is_dry = commandline.ids(options["config"]), options["dry_run"]
        plan = commandline.plan_of(options, lambda: deciding.reassign(ids, options["to"]))
        moves = commandline.moves_of(plan, is_dry=is_dry)
        for move in moves:
            self.stdout.write(commandline.line(move))
        self.stdout.write(f"{plain_count(len(moves), 'config')} {'would be ' if is_dry else ''}reassigned")
        for sentence in commandline.consequences_of(plan, is_dry=is_dry):
            self.stdout.write(sentence)
        if plan.outcome:
            raise CommandError(plan.outcome)
