from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import plans
from checks.dispatcher import costs
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import Plan
from clusteragent.lib.words import measured_count, percent, plain_count


class Command(ActingCommand):
    help = "Move configs from busy nodes to idle ones, the fewest that make a clear difference."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only show what would move, by the last measured costs"
        )
        parser.add_argument("--force", action="store_true", help="move even if it makes no clear difference")
        parser.add_argument("--no-budget", action="store_true", help="ignore the limit of moves in one period")
        commandline.add(parser, "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        how = {"actor": commandline.actor(), "force": options["force"], "unlimited": options["no_budget"]}
        is_dry = options["dry_run"]
        plan = plans.draft(**how) if is_dry else self.rebalance(how)
        moves = commandline.moves_of(plan, is_dry=is_dry)
        # The words of the Datadog Cluster Agent's command, but for its dry run, which that has not. Each move is of one config.
        done = (
            f"{plain_count(len(moves), 'config')} would move"
            if is_dry
            else f"{len(moves)} cluster checks rebalanced successfully"
        )
        lines = [done, *map(line, moves), spread(plan)]
        if is_dry and not moves:
            lines.append(_why_none(options))
        commandline.answer(self, options, document(plan, is_dry=is_dry) | commandline.as_told(options), lines)
        if plan.outcome:
            raise CommandError(plan.outcome)

    def rebalance(self, how: dict[str, Any]) -> Plan:
        costs.measure()
        try:
            plan, _ = plans.rebalance(**how)
        except plans.StalePlan as error:
            raise CommandError(f"nothing moved, because something changed meanwhile: {error}") from error
        return plan


def document(plan: Plan, *, is_dry: bool) -> dict[str, Any]:
    """Return the plan as JSON data. is_dry: with all planned moves, not only those that were made."""
    moves = commandline.moves_of(plan, is_dry=is_dry)
    return {"moves": moves, "nodes": plan.nodes, "spread": plan.spread, "outcome": plan.outcome}


def line(move: dict[str, Any]) -> str:
    """Return a move of a plan as a line of text."""
    cost = measured_count(move["cost"], "worker", 3)
    return f"{commandline.title_of(move)}: {move['from_node']} → {move['to_node']} ({cost})"


def spread(plan: Plan) -> str:
    """Return the highest load and the standard deviation of all before and after a plan, as a line of text."""
    peak, deviation = (" → ".join(map(percent, plan.spread[name])) for name in ("peak", "stddev"))
    return f"highest load {peak}, standard deviation of loads {deviation}"


def _why_none(options: dict[str, Any]) -> str:
    """Why a rebalance would move nothing."""
    if options["force"]:
        return "No move that is allowed makes loads more even."
    return "No move that is allowed makes a clear difference; --force also makes small ones."
