from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.dispatcher import deciding
from checks.management import steering
from checks.models.orders import Pin


class Command(BaseCommand):
    help = "Pin configs to a node, to nodes of a name pattern, or to nodes with a label, and move those that run elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        steering.add_configs(parser)
        parser.add_argument("aim", metavar="AIM", help="a node's name, or as said by --pattern or --label")
        kind = parser.add_mutually_exclusive_group()
        kind.add_argument("--pattern", action="store_true", help="AIM is a pattern of names: runner-*")
        kind.add_argument("--label", action="store_true", help="AIM is a label: zone=a")
        parser.add_argument("--waits", action="store_true", help="run nowhere while no such node accepts them")
        steering.add_order(parser)
        steering.add_dry_run(parser)
        steering.add_answer(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Pin.Kind.PATTERN if options["pattern"] else Pin.Kind.LABEL if options["label"] else Pin.Kind.NODE
        order = {"kind": kind, "waits": options["waits"], "until": steering.end(options), "note": options["note"]}
        ids = steering.ids(options["config"])
        plan = steering.ordered(options, lambda: deciding.pin(ids, options["aim"], **order))
        steering.tell(self, options, len(ids), f"pinned to {options['aim']}", plan)
