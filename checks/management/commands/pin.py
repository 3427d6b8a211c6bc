from typing import Any

from django.core.management.base import CommandParser

from checks.dispatcher import deciding
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models.orders import Pin


class Command(ActingCommand):
    help = "Pin configs to a node, to nodes of a name pattern or to nodes with a label. Move those that run elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config")
        parser.add_argument("aim", metavar="AIM", help="a node's name, or a pattern or label with --pattern or --label")
        kind = parser.add_mutually_exclusive_group()
        kind.add_argument("--pattern", action="store_true", help="AIM is a pattern of names: runner-*")
        kind.add_argument("--label", action="store_true", help="AIM is a label: zone=a")
        parser.add_argument("--waits", action="store_true", help="run nowhere while no such node accepts them")
        commandline.add(parser, "--accept-dangling", "--until", "--note", "--dry-run", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Pin.Kind.PATTERN if options["pattern"] else Pin.Kind.LABEL if options["label"] else Pin.Kind.NODE
        until, note = commandline.parse_until(options), options["note"]
        order = {"kind": kind, "waits": options["waits"], "until": until, "note": note}
        ids = commandline.ids(options["config"])
        plan = commandline.plan_of(options, lambda: deciding.pin(ids, options["aim"], **order))
        commandline.print_moves(self, options, len(ids), f"pinned to {options['aim']}", plan)
