import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks import plans
from checks.management.commands.rebalance import line
from checks.plans import Outlook
from checks.wire.scrub import scrub
from clusteragent.lib.words import plain_count
from nodes.models import UnknownNode


class Command(BaseCommand):
    help = "Show what would move if nodes were removed or added. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", metavar="NODE", action="append", default=[], help="may be given several times")
        parser.add_argument("--add", metavar="NUMBER", type=int, default=0, help="add so many nodes of four workers")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["add"] < 0:
            raise CommandError(f"--add {options['add']}: allowed is 0 or more")
        try:
            outlook = plans.what_if(remove=options["remove"], add=options["add"])
        except UnknownNode as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(document(outlook), indent=2))
        else:
            self.show(outlook)

    def show(self, outlook: Outlook) -> None:
        self.stdout.write(f"{plain_count(len(outlook.placed), 'config')} would lose their node")
        for config, to in outlook.placed.items():
            self.stdout.write(f"{scrub(config.name)} {config.digest}: {config.node} → {to or 'nowhere'}")
        self.stdout.write(f"{plain_count(len(outlook.plan.moves), 'config')} would then be rebalanced")
        for move in outlook.plan.moves:
            self.stdout.write(line(move))
        for name, values in document(outlook)["spread"].items():
            self.stdout.write(f"{name}: {' → '.join(f'{value:.3f}' for value in values)}")


def document(outlook: Outlook) -> dict[str, Any]:
    """Return the outlook as JSON data. Each spread has three values: now, after the change, and after a rebalance."""
    spread = outlook.plan.spread
    return {
        "placed": [
            {"digest": config.digest, "name": scrub(config.name), "from_node": config.node, "to_node": to}
            for config, to in outlook.placed.items()
        ],
        "moves": outlook.plan.moves,
        "spread": {"peak": [outlook.now.peak, *spread["peak"]], "stddev": [outlook.now.stddev, *spread["stddev"]]},
    }
