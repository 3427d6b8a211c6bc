from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import plans
from checks.dispatcher import costs
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import Plan
from clusteragent.lib.words import measured_count


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
        done = "would be rebalanced" if is_dry else "rebalanced successfully"
        # The words of the Datadog Cluster Agent's command. Each move is of one config.
        lines = [f"{len(moves)} cluster checks {done}", *map(line, moves), spread(plan)]
        commandline.answer(self, options, document(plan, is_dry=is_dry), lines)
        if plan.outcome and not options["json"]:
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
    """Return peak and standard deviation before and after a plan, as a line of text."""
    (peak, new_peak), (stddev, new_stddev) = plan.spread["peak"], plan.spread["stddev"]
    return f"peak {peak:.3f} → {new_peak:.3f}, standard deviation {stddev:.3f} → {new_stddev:.3f}"
