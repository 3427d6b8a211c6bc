from typing import Any

from django.core.management.base import CommandParser

from checks import dispatcher
from checks.explain import forecasts
from checks.explain.aftermath import titled
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.words import agreeing, duration, listed, natural, plain_count
from nodes.models import Node


class Command(ActingCommand):
    help = "Take all configs away from the nodes that expired."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--force",
            action="store_true",
            help="skip the hearing, the brake, and the check that other nodes can take the work",
        )
        commandline.add(
            parser, "--dry-run", help="only show which nodes would be lost, with what, and who would get that"
        )
        commandline.add(parser, "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        lost = Node.objects.lost()
        before = set(lost.values_list("name", flat=True))
        with commandline.trial(options):
            moves = dispatcher.expire_nodes(force=options["force"], actor=commandline.actor())
            expired = set(lost.values_list("name", flat=True)) - before
            afterwards = _afterwards() if options["dry_run"] and (moves or expired) else []
        would_expire, would_be = ("would expire", "would be ") if options["dry_run"] else ("expired", "")
        if moves or expired:
            idle = sorted(expired - {move.source_node for move in moves}, key=natural)
            lines = [
                *(f"{move.shown}: {move.source_node} {would_expire}" for move in moves),
                *(f"no config: {name} {would_expire}" for name in idle),
                f"{plain_count(len(moves), 'config')} {would_be}taken away",
                *afterwards,
            ]
        else:
            afterwards = [f"No node {would_expire}: {_why_none()}"]
            lines = afterwards
        document = {
            "nodes": sorted(expired, key=natural),
            "moves": [commandline.of_ledger(move) for move in moves],
            "sentences": afterwards,
        }
        commandline.answer(self, options, document | commandline.as_told(options), lines)


def _why_none() -> str:
    """Why no node expires."""
    if overdue := sorted(Node.objects.expired(force=True).values_list("name", flat=True), key=natural):
        are = agreeing(len(overdue), "is", "are")
        return f"{listed(overdue)} {are} silent, but that is not believed yet, or nobody could take the work; --force expires all"
    return f"each reported within the last {duration(conf.NODE_EXPIRATION_TIMEOUT)}"


def _afterwards() -> list[str]:
    """Where the leader would place what runs nowhere now, and why not all of it."""
    told = forecasts.redispatch()
    moves = [f"{title}: {one.source or 'nobody'} → {one.to}" for one, title in titled(told.moves)]
    return [*moves, *map(scrub, told.sentences)]
