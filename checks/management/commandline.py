"""What the commands share: arguments for configs and orders, their parsing, and the output of moves."""

import json
import os
import pwd
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from acts.models import Act
from acts.models.acts import BY_COMMAND, COMMAND_LINE
from acts.recording import dry_run, entered, person
from checks import plans
from checks.dispatcher import REFUSALS, Decision, described
from checks.dispatcher.acting import record_refusal
from checks.explain import consequences, foreseen, objections
from checks.explain.aftermath import titled
from checks.explain.forecasts import Forecast
from checks.explain.objections import NotAccepted
from checks.models import Config, Move, Plan
from checks.models.titles import called
from checks.wire.scrub import scrub
from clusteragent.lib import conf, deadlines
from clusteragent.lib.database.rehearsal import TooLong, rehearsal
from clusteragent.lib.words import escape_controls, plain_count

# What the moves of an order are, before and after it, where they do not lead from one node to another.
_MOVED = ("move", "moved")
_MOVES = {"paused": ("stop running", "stopped running"), "resumed": ("come back", "came back")}
# As long as a user's name may be.
MOST_OF_NAME = 150
# A file of this name is standard input or standard output.
STANDARD = Path("-")


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "config": {
        "nargs": "+",
        "metavar": "CONFIG",
        "help": "a config's title, one of its check IDs, its digest or its short ID",
    },
    "--check": {"metavar": "NAME", "help": "all configs of this check"},
    "--until": {"metavar": "TIME", "help": deadlines.HELP.replace("%", "%%")},
    "--by": {"metavar": "TIME", "help": f"when all shall be done: {deadlines.HELP}".replace("%", "%%")},
    "--note": {"default": "", "help": "the reason, shown with the order"},
    "--as": {
        "dest": "person",
        "metavar": "NAME",
        "help": "who does it, for the record; by default the account",
    },
    "--accept-no-node": {"action": "store_true", "help": "also if no node would take work then"},
    "--accept-dangling": {"action": "store_true", "help": "also if configs that run now would run nowhere then"},
    "--dry-run": {"action": "store_true", "help": "only show what would move"},
    "--json": {"action": "store_true", "help": "for programs"},
}


class ActingCommand(BaseCommand):
    """A command by which a person changes something: what it does is on record as done by `--as`, or by the account.

    refusals: what it raises besides where it refuses what was asked for, which is on record, too. Bad input is no refusal.
    """

    refusals: tuple[type[Exception], ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        add(parser, "--as")

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command. Without `--as`, sudo's user is the person, or else the account that it runs as.

        Raises CommandError for a name that is too long, or not one printable line.
        """
        account = _account()
        name = options["person"] if options.get("person") is not None else os.environ.get("SUDO_USER") or account
        if not (name.strip() and name.isprintable() and len(name) <= MOST_OF_NAME):
            given = escape_controls(name[:MOST_OF_NAME]) if name.strip() else "(empty)"
            raise CommandError(f"--as {given}: up to {MOST_OF_NAME} printable characters")
        is_dry = dry_run() if options.get("dry_run") else nullcontext()
        with entered(Act.How.COMMAND, f"{account} on {conf.REPLICA}", lambda: name), is_dry:
            try:
                return super().execute(*args, **options)
            except CommandError as error:
                cause = error.__cause__
                kinds = (*REFUSALS, NotAccepted, plans.StalePlan, *self.refusals)
                if isinstance(cause, Exception) and isinstance(cause, kinds):
                    record_refusal(type(self).__module__.rpartition(".")[2], cause)
                raise


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"  # a container's, which has no name


def actor() -> str:
    """The actor and author of what a command does: the person, and that it came by the command line."""
    return f"{who}{BY_COMMAND}" if (who := person()) else COMMAND_LINE


def add(parser: CommandParser, *names: str, **how: Any) -> None:
    """Add arguments that several commands have. how: what is different for this command."""
    for name in names:
        parser.add_argument(name, **_ARGUMENTS[name] | how)


def ids(names: Sequence[str]) -> list[int]:
    """Return the ids of the configs with these titles, digests, check IDs or short IDs. Raises CommandError: see `ids_of`."""
    try:
        return sorted(set(Config.objects.ids_of(names)))
    except LookupError as error:
        raise CommandError(str(error)) from error


def ids_of_check(options: dict[str, Any]) -> list[int]:
    """Return the ids of the named configs, or of all configs of the check `--check`. Raises CommandError."""
    if bool(options["config"]) == bool(options["check"]):
        raise CommandError("name check IDs, or a check with --check")
    if not options["check"]:
        return ids(options["config"])
    found = list(Config.objects.dispatchable().filter(name=options["check"]).values_list("pk", flat=True))
    if not found:
        raise CommandError(f"no config is of the check {options['check']}")
    return found


def parse_until(options: dict[str, Any], name: str = "until") -> datetime | None:
    """Return the time of `--until`, or of another option; None without it. Raises CommandError for a time that can't be read."""
    try:
        return None if options[name] is None else deadlines.parse(options[name])
    except (ValueError, OverflowError) as error:
        raise CommandError(f"--{name} {options[name] or '(empty)'}: {error}") from error


def plan_of(options: dict[str, Any], decide: Callable[[], Decision]) -> Plan:
    """Apply a decision as a plan and return the plan; only draft it with `--dry-run`. Raises CommandError when it is refused."""
    try:
        if options["dry_run"]:
            return plans.to_plan(decide(), author=actor())
        return plans.order(foreseen.accepting(decide, accepted(options)), actor=actor())[0]
    except NotAccepted as refusal:
        raise unaccepted(refusal) from refusal
    except (*REFUSALS, ValidationError) as error:
        message = "; ".join(error.messages) if isinstance(error, ValidationError) else described(error)
        raise CommandError(message) from error
    except plans.StalePlan as stale:
        raise CommandError(f"nothing was done, because something changed meanwhile: {stale}") from stale


def require_accepted(plan: Plan, options: dict[str, Any]) -> None:
    """Raise NotAccepted if a plan means what the options of a command do not accept."""
    objections.require_accepted(objections.of(plan), accepted(options))


def accepted(options: dict[str, Any]) -> set[str]:
    """Return what the options of a command accept, as `objections` names it."""
    return {name for name in (objections.NO_NODE, objections.DANGLING) if options.get(name)}


def unaccepted(refusal: NotAccepted) -> CommandError:
    """Return the error that says what must be accepted, and by which options."""
    return CommandError(" ".join(f"{one.reason} {one.option} does it all the same" for one in refusal.objections))


@contextmanager
def trial(options: dict[str, Any]) -> Iterator[None]:
    """With `--dry-run`, take back what is done within it: for acts that have neither a plan nor a forecast.

    Raises CommandError where that would keep others waiting for too long.
    """
    if not options["dry_run"]:
        yield
        return
    try:
        with rehearsal():
            yield
    except TooLong as error:
        raise CommandError(f"no dry run, and nothing was done: {error}") from error


def _as_json(value: object) -> str:
    # Times as the operators' API writes them, so that programs read both alike.
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def answer(command: BaseCommand, options: dict[str, Any], document: dict[str, Any], lines: Iterable[str]) -> None:
    """Print the document as JSON with `--json`, else the lines of text. Texts of checks must not control the terminal."""
    shown = [json.dumps(document, indent=2, default=_as_json)] if options["json"] else map(escape_controls, lines)
    for text in shown:
        command.stdout.write(text)


def as_told(options: dict[str, Any]) -> dict[str, bool]:
    """Return what the JSON of a dry run has besides."""
    return {"dry_run": True} if options["dry_run"] else {}


def show_forecast(command: BaseCommand, options: dict[str, Any], forecast: Callable[[], Forecast]) -> None:
    """Print what would follow an act that has no plan: for `--dry-run`. Raises CommandError when it would be refused."""
    try:
        told = forecast()
    except REFUSALS as error:
        raise CommandError(described(error)) from error
    document, lines = foretold(told)
    answer(command, options, {"what": scrub(told.what)} | document | {"dry_run": True}, lines)


def foretold(told: Forecast) -> tuple[dict[str, Any], list[str]]:
    """Return what a forecast says, for programs and for people."""
    moves = [one._asdict() | {"check": scrub(one.check), "title": title} for one, title in titled(told.moves)]
    sentences = [scrub(one) for one in told.told]
    rows = [f"{one['title']}: {one['source'] or 'nobody'} → {one['to'] or 'nobody'}" for one in moves]
    return {"sentences": sentences, "moves": moves}, [*rows, *sentences]


def print_moves(
    command: BaseCommand, options: dict[str, Any], number: int, done: str, plan: Plan | None = None
) -> None:
    """Print the moves of a plan and how many configs were e.g. `paused` (`done`): as text, or as JSON with `--json`.

    A dry run says what else follows, and why what would not move stays. Raises CommandError when a part of the plan was not
    done.
    """
    is_dry = options.get("dry_run", False)
    moves = moves_of(plan, is_dry=is_dry) if plan else []
    document = {"configs": number, "moves": list(map(told_of, moves))}
    sentences = consequences_of(plan, is_dry=is_dry) if plan else []
    would, moved = (
        ("would be ", f"would {_MOVES.get(done, _MOVED)[0]}") if is_dry else ("", _MOVES.get(done, _MOVED)[1])
    )
    last = f"{plain_count(number, 'config')} {would}{done}, {len(moves)} {moved}"
    more = {"sentences": sentences, "dry_run": True} if is_dry else {}
    answer(command, options, document | more, [*map(line, moves), last, *sentences])
    if plan and plan.outcome:
        raise CommandError(plan.outcome)


def consequences_of(plan: Plan, *, is_dry: bool) -> list[str]:
    """Return what a plan means besides its moves, a sentence each; of one that was carried out, what may be an error."""
    if not is_dry:
        return consequences.doubts(plan)
    return consequences.told(plan)


def moves_of(plan: Plan, *, is_dry: bool) -> list[dict[str, Any]]:
    """Return the moves that a plan made, or would make in a dry run."""
    moves: list[dict[str, Any]] = plan.moves if is_dry else plan.moves[: plan.moved]
    return moves


def told_of(move: dict[str, Any]) -> dict[str, Any]:
    """Return a move of a plan for programs."""
    ends = {key: move[key] for key in ("digest", "from_node", "to_node")}
    return ends | {"name": scrub(move["name"]), "title": title_of(move)}


def of_ledger(move: Move) -> dict[str, Any]:
    """Return a move of the ledger for programs."""
    ends = {"digest": move.digest, "from_node": move.source_node, "to_node": move.to_node}
    return ends | {"name": scrub(move.name), "title": move.shown}


def line(move: dict[str, Any]) -> str:
    """Return a move of a plan as a line of text."""
    source, to = move["from_node"] or "nobody", move["to_node"] or "nobody"
    return f"{title_of(move)}: {source} → {to}"


def title_of(move: dict[str, Any]) -> str:
    """Return how people call the config of a plan's move. Plans of older versions have no titles."""
    return called(move.get("title", ""), move["name"], move["digest"])
