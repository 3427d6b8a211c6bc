from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.management import commandline
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import displayed_check_id, displayed_name
from nodes.models import Node


class Command(BaseCommand):
    help = "Show which node runs which configs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", metavar="NAME", help="only configs of this check")
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        configs = Config.objects.described(options["check"])
        if options["check"] and not configs:
            raise CommandError(f"no config is of the check {options['check']}")
        nodes = list(Node.objects.known().values_list("name", flat=True))
        shown = list(map(_shown, configs))
        commandline.answer(self, options, {"nodes": nodes, "configs": shown}, lines(nodes, shown))


def lines(nodes: Sequence[str], configs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield which node runs which configs as lines of text."""
    by_owner: dict[str, list[dict[str, Any]]] = {name: [] for name in nodes}
    width = max([4, *map(len, by_owner)])
    yield from (f"=== {Node.objects.alive().count()} agents reporting ===", "", f"{'Name':{width}}  Running checks")
    for config in configs:
        by_owner.setdefault(config["node"] or "", []).append(config)
    for name in nodes:
        yield f"{name:{width}}  {sum(len(config['check_ids']) for config in by_owner[name])}"
    for name in sorted(by_owner):
        if by_owner[name]:
            yield from ("", f"===== Checks on {name} =====" if name else "===== Dangling: no node runs these =====")
        for config in by_owner[name]:
            yield from ("", f"=== {config['check']} check ===", f"{config['origin']}, config {config['digest']}")
            yield from (f"  {check_id}" for check_id in config["check_ids"])


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    """The row without secrets in names. It has digests and the hashes of check IDs, since the user can read the database."""
    check_ids = [displayed_check_id(check_id, displayed_name(check_id), exact=True) for check_id in config["check_ids"]]
    return config | {"check": scrub(config["check"]), "origin": scrub(config["origin"] or ""), "check_ids": check_ids}
