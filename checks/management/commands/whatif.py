from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks import plans
from checks.management import commandline
from checks.management.commands.rebalance import line
from checks.plans import Outlook
from checks.wire.scrub import scrub
from clusteragent.lib.words import listed, plain_count
from nodes.models import Node, UnknownNode


class Command(BaseCommand):
    help = "Show what would move if nodes were removed or added, or a failure domain were lost. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", metavar="NODE", action="append", default=[], help="may be given several times")
        parser.add_argument(
            "--lose-domain", metavar="DOMAIN", action="append", default=[], help="all its nodes go at once"
        )
        parser.add_argument("--add", metavar="NUMBER", type=int, default=0, help="add so many nodes of four workers")
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["add"] < 0:
            raise CommandError(f"--add {options['add']}: allowed is 0 or more")
        lost = []
        for domain in options["lose_domain"]:
            names = list(Node.objects.in_domain(domain).values_list("name", flat=True))
            if not names:
                known = listed(list(Node.objects.domains()), 5) or "none"
                raise CommandError(f"no node is in the domain {domain!r}: there are {known}")
            lost += names
        try:
            outlook = plans.what_if(remove=[*options["remove"], *lost], add=options["add"])
        except UnknownNode as error:
            raise CommandError(str(error)) from error
        commandline.answer(self, options, document(outlook), lines(outlook))


def lines(outlook: Outlook) -> Iterator[str]:
    """Yield the outlook as lines of text."""
    yield f"{plain_count(len(outlook.placed), 'config')} would lose their node"
    if nowhere := sum(to is None for to in outlook.placed.values()):
        yield f"{plain_count(nowhere, 'config')} would find no other"
    for config, to in outlook.placed.items():
        yield f"{config.shown}: {config.node} → {to or 'nowhere'}"
    yield f"{plain_count(len(outlook.plan.moves), 'config')} would then be rebalanced"
    yield from map(line, outlook.plan.moves)
    for name, values in document(outlook)["spread"].items():
        yield f"{name}: {' → '.join(f'{value:.3f}' for value in values)}"


def document(outlook: Outlook) -> dict[str, Any]:
    """Return the outlook as JSON data. Each spread has three values: now, after the change, and after a rebalance."""
    spread = outlook.plan.spread
    return {
        "placed": [
            {
                "digest": config.digest,
                "name": scrub(config.name),
                "title": config.shown,
                "from_node": config.node,
                "to_node": to,
            }
            for config, to in outlook.placed.items()
        ],
        "moves": outlook.plan.moves,
        "spread": {"peak": [outlook.now.peak, *spread["peak"]], "stddev": [outlook.now.stddev, *spread["stddev"]]},
    }
