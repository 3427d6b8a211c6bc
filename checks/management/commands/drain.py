import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from checks.dispatcher import deciding
from checks.explain import drains, forecasts
from checks.explain.drains import Drain
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import Assignment, Plan
from clusteragent.lib.database import unusable
from clusteragent.lib.words import agreeing, escape_controls, listed, natural, plain_count
from nodes.models import Node, UnknownNode

EMPTY, NOT_EMPTY, UNKNOWN = range(3)
# Seconds between two looks of `--wait`.
LOOK = 1.0


class Command(ActingCommand):
    help = (
        "Drain nodes: cordon them, and move their configs away a few at a time, with --by all of them until then. With --wait "
        "and --check it exits with 0 if they are empty and may be stopped, with 1 if not, and with 2 if that can't be told."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", help="a node's name")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--undo", action="store_true", help="uncordon the nodes")
        wait = (
            "drain them if they are not, and wait until they are empty, or the deadline is over; without --by, what drains "
            "already keeps its deadline"
        )
        what.add_argument("--wait", action="store_true", help=wait)
        what.add_argument("--check", action="store_true", help="only say whether they are empty and may be stopped")
        commandline.add(
            parser, "--dry-run", help="only show what would move, and where to; with --undo what would follow"
        )
        commandline.add(parser, "--accept-no-node", "--by", "--json")
        commandline.add(parser, "--note", help="the reason, shown with the plan and on record")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        names = sorted(set(options["node"]))
        self.refuse_combinations(options)
        if options["check"]:
            self.tell(options, self.look(names))
            return
        by = commandline.parse_until(options, "by")
        if options["wait"]:
            found = [drain for drain in self.look(names) if drain.state != "lost"]
            if ordered := [drain.name for drain in found if by or not drain.is_draining]:
                changed, _ = self.drain(ordered, by, options)
                if not options["json"]:
                    self.stdout.write(f"{plain_count(len(changed), 'node')} drained")
            self.wait(names, options)
            return
        if options["undo"]:
            self.uncordon(names, options)
        else:
            commandline.answer(self, options, *self.order(names, by, options))

    def order(self, names: list[str], by: datetime | None, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Drain nodes, or say what that would move. Return what is answered, for programs and for people."""
        held = Assignment.objects.filter(node__name__in=names).count()
        changed, plan = self.drain(names, by, options)
        stay = max(held - len(plan.moves), 0)
        document: dict[str, Any] = {"nodes": names, "changed": len(changed), "stay": stay}
        same = sorted({*names} - changed, key=natural)
        already = f": {listed(same)} {agreeing(len(same), 'drains', 'drain')} so already" if same else ""
        done = "would be drained" if options["dry_run"] else "drained"
        lines = [f"{plain_count(len(changed), 'node')} {done}{already}"]
        if options["dry_run"]:
            sentences = commandline.consequences_of(plan, is_dry=True)
            document |= {"moves": plan.moves, "sentences": sentences}
            lines = [*map(commandline.line, plan.moves), *lines, *sentences]
        elif stay:
            lines.append(f"{plain_count(stay, 'config')} can't go to another node as it is now; --check says why")
        return document, lines

    def drain(self, names: list[str], by: datetime | None, options: dict[str, Any]) -> tuple[set[str], Plan]:
        """Drain nodes. Return which of them change, and the plan of it.

        Raises CommandError, on record, if no node would take work then and that is not accepted.
        """
        same = Node.objects.filter(name__in=names, draining=True, schedulable=False, drain_by=by)
        changed = {*names} - {*same.values_list("name", flat=True)}
        plan = commandline.plan_of(options, lambda: deciding.drain(names, by=by, note=options["note"]))
        return changed, plan

    def refuse_combinations(self, options: dict[str, Any]) -> None:
        """Raise CommandError for options that say nothing together."""
        if options["by"] is not None and (options["undo"] or options["check"]):
            raise CommandError("--by is the deadline of a drain: not with --undo or --check")
        if options["note"] and (options["undo"] or options["check"]):
            raise CommandError("--note is the reason of a drain: not with --undo or --check")
        if options["dry_run"] and (options["wait"] or options["check"]):
            raise CommandError("--dry-run changes nothing: not with --wait or --check")

    def uncordon(self, names: list[str], options: dict[str, Any]) -> None:
        """Uncordon nodes, or say what would follow. Raises CommandError for an unknown node."""
        nodes = Node.objects.known().filter(name__in=names)
        if unknown := sorted(set(names) - set(nodes.values_list("name", flat=True))):
            raise CommandError(str(Node.objects.unknown(unknown[0])))
        if options["dry_run"]:
            commandline.show_forecast(self, options, lambda: forecasts.uncordon(names))
            return
        left = forecasts.open_of(names)
        changed = nodes.cordon(schedulable=True, actor=commandline.actor())
        why = f": {forecasts.not_closed(left)}" if left else ""
        lines = [f"{plain_count(changed, 'node')} uncordoned{why}"]
        commandline.answer(self, options, {"nodes": names, "changed": changed}, lines)

    def wait(self, names: list[str], options: dict[str, Any]) -> None:
        """Say how far the drains are when that changes, until all nodes are empty or it can't become so. Exits with the code."""
        said: dict[str, set[str]] = {}
        while True:
            found = self.look(names)
            for drain in found:
                for line in () if options["json"] else (drain.sentence, *drain.reasons):
                    if line not in said.get(drain.name, ()):
                        self.stdout.write(escape_controls(line))
                        self.stdout.flush()
                said[drain.name] = {drain.sentence, *drain.reasons}
            if all(drain.is_empty for drain in found) or any(drain.is_late or drain.is_undone for drain in found):
                self.tell(options, found, said)
            time.sleep(LOOK)

    def look(self, names: Sequence[str]) -> list[Drain]:
        """Return how far the drains of these nodes are. Raises CommandError with UNKNOWN if that can't be told."""
        try:
            return [drains.of(name) for name in names]
        except UnknownNode as error:
            raise CommandError(str(error), returncode=UNKNOWN) from error
        except DatabaseError as error:
            why = unusable(error) or f"the database can't be read: {' '.join(str(error).split())}"
            raise CommandError(why, returncode=UNKNOWN) from error

    def tell(self, options: dict[str, Any], found: Sequence[Drain], said: dict[str, set[str]] | None = None) -> None:
        """Print how far the drains are, and why the rest can't go, without what was said. Exits with the code."""
        lines = []
        for drain in found:
            lines += [line for line in (drain.sentence, *drain.reasons) if line not in (said or {}).get(drain.name, ())]
        commandline.answer(self, options, {"drains": [drain.document() for drain in found]}, lines)
        sys.exit(EMPTY if all(drain.is_empty for drain in found) else NOT_EMPTY)
