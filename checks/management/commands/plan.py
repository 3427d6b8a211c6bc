"""manage.py plan: list, show and apply stored plans."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import dispatcher, plans
from checks.dispatcher.acting import record_refusal
from checks.explain import consequences, foreseen
from checks.explain.objections import NotAccepted
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import Plan
from clusteragent.lib.words import percent, plain_count, utc

# So many plans are listed.
MOST = 50


class Command(ActingCommand):
    """Plans are made in the admin and by the operators' API."""

    help = "List the last plans, show what one would move, or apply it: once, and only if nothing that it names has changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=("list", "show", "apply"), help="what to do")
        parser.add_argument("number", nargs="?", type=int, metavar="PLAN", help="show, apply: its number")
        commandline.add(parser, "--json")
        commandline.add(
            parser, "--dry-run", help="apply: only show what would move, and whether it can be applied still"
        )
        commandline.add(parser, "--accept-no-node", help="apply: also a drain after which no node would take work")
        commandline.add(parser, "--accept-dangling", help="apply: also if configs that run now would run nowhere")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        action, number = options["action"], options["number"]
        if (number is None) != (action == "list"):
            raise CommandError(f"{action} {'takes no' if action == 'list' else 'needs a'} PLAN")
        if options["dry_run"] and action != "apply":
            raise CommandError(f"{action} changes nothing: it takes no --dry-run")
        if action == "list":
            self.list(options)
            return
        plan = Plan.objects.filter(pk=number).first()
        if plan is None:
            raise CommandError(f"there is no plan {number}: `plan list` shows the last ones")
        if action == "apply":
            self.apply(plan, options)
        else:
            document = _told(plan) | {"moves": list(map(commandline.told_of, plan.moves))}
            commandline.answer(self, options, document, _lines(plan))

    def list(self, options: dict[str, Any]) -> None:
        """Print the last plans."""
        found = tuple(Plan.objects.all()[:MOST])
        lines = [f"{plan.pk}  {utc(plan.time)}  {plan}, {_state(plan)}" for plan in found]
        commandline.answer(self, options, {"plans": [*map(_told, found)]}, lines or ["There is no plan."])

    def apply(self, plan: Plan, options: dict[str, Any]) -> None:
        """Apply a plan, or with `--dry-run` say what that would do. Raises CommandError where it can't be applied."""
        is_dry = options["dry_run"]
        try:
            if is_dry:
                plans.require_applicable(plan)
            else:
                commandline.require_accepted(plan, options)
                foreseen.note_plan(plan)
                plans.apply(plan, actor=commandline.actor(), may_close=options["accept_no_node"])
        except NotAccepted as refusal:
            record_refusal(f"plan {plan.pk}: {plan}", refusal, plan=plan)
            raise commandline.unaccepted(refusal) from refusal
        except (plans.StalePlan, dispatcher.Outside) as refusal:
            raise CommandError(f"plan {plan.pk} can't be applied: {dispatcher.described(refusal)}") from refusal
        moves = commandline.moves_of(plan, is_dry=is_dry)
        done = f"{plan}: {'would be applied' if is_dry else 'applied'}, {_moving(plan, len(moves), is_dry=is_dry)}"
        document = _told(plan) | {"moves": list(map(commandline.told_of, moves))} | commandline.as_told(options)
        sentences = commandline.consequences_of(plan, is_dry=is_dry)
        commandline.answer(self, options, document, [*map(commandline.line, moves), done, *sentences])
        if not is_dry and plan.outcome:
            raise CommandError(plan.outcome)


def _moving(plan: Plan, number: int, *, is_dry: bool) -> str:
    """What applying a plan moves, or would move."""
    if plan.order.get("verb") == "drain":
        return f"{plain_count(len(plan.moves), 'config')} to move bit by bit"
    return f"{plain_count(number, 'config')} {'would move' if is_dry else 'moved'}"


def _told(plan: Plan) -> dict[str, Any]:
    """What is known of a plan but its moves, as JSON data. Its names are those of the operators' API."""
    names = ("author", "reason", "time", "spread", "applied_at", "moved", "outcome")
    return {"id": plan.pk, "plan": str(plan)} | {name: getattr(plan, name) for name in names}


def _state(plan: Plan) -> str:
    return f"applied {utc(plan.applied_at)}" if plan.applied_at else "not applied"


def _lines(plan: Plan) -> Iterator[str]:
    """A plan in words: who made it, what it moves, what that does to loads, and whether it can be applied."""
    by = f" by {plan.author}" if plan.author else ""
    yield f"Plan {plan.pk}: {plan}, made{by} {utc(plan.time)}, {_state(plan)}"
    yield from map(commandline.line, plan.moves)
    lost = sum(not move["to_node"] for move in plan.moves)
    yield f"{plain_count(len(plan.moves), 'config')} to move{f', {lost} of them to no node' if lost else ''}"
    if peak := plan.spread.get("peak"):
        yield f"highest load {' → '.join(map(percent, peak))}"
    yield from consequences.of(plan)
    if plan.outcome:
        yield plan.outcome
    elif not plan.applied_at and (why := plans.why_stale(plan)):
        yield f"It can't be applied any more: {why}"
