import json
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import displayed_check_id, displayed_name
from clusteragent.lib.words import escape_controls
from nodes.models import Node


class Command(BaseCommand):
    help = "Show which node runs which configs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", metavar="NAME", help="only configs of this check")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        configs = Config.objects.described(options["check"])
        if options["check"] and not configs:
            raise CommandError(f"no config is of the check {options['check']}")
        nodes = list(Node.objects.known().values_list("name", flat=True))
        if options["json"]:
            self.stdout.write(
                json.dumps({"nodes": nodes, "configs": list(map(_shown, configs))}, indent=2, default=str)
            )
        else:
            self.show(nodes, map(_shown, configs))

    def show(self, nodes: list[str], configs: Iterable[dict[str, Any]]) -> None:
        by_owner: dict[str, list[dict[str, Any]]] = {name: [] for name in nodes}
        for config in configs:
            by_owner.setdefault(config["node"] or "", []).append(config)
        width = max([4, *map(len, nodes)])
        alive = Node.objects.alive().count()
        self.stdout.write(f"=== {alive} agents reporting ===\n\n{'Name':{width}}  Running checks")
        for name in nodes:
            self.stdout.write(f"{name:{width}}  {sum(len(c['check_ids']) for c in by_owner[name])}")
        for name in sorted(by_owner):
            if by_owner[name]:
                self.stdout.write(
                    f"\n===== Checks on {name} =====" if name else "\n===== Dangling: no node runs these ====="
                )
            for config in by_owner[name]:
                origin = escape_controls(config["origin"])
                ids = (f"  {escape_controls(check_id)}" for check_id in config["check_ids"])
                self.stdout.write(f"\n=== {config['check']} check ===\n{origin}, config {config['digest']}")
                self.stdout.write("\n".join(ids))


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    """The row without secrets in names. It has digests and the hashes of check IDs, since the user can read the database."""
    check_ids = [displayed_check_id(check_id, displayed_name(check_id), exact=True) for check_id in config["check_ids"]]
    return config | {"check": scrub(config["check"]), "origin": scrub(config["origin"] or ""), "check_ids": check_ids}
