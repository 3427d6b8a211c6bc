from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acts.recording import foresee
from checks.adoption import adopting, states
from checks.adoption.adopting import Forecast, NotReady
from checks.adoption.matching import Ours, Pair
from checks.adoption.outlook import Outlook, moved_since
from checks.adoption.states import State, UnreadableState
from checks.dispatcher import StalePlan, described
from checks.explain.objections import NotAccepted, require_accepted, why_nowhere
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.models import freezes
from checks.wire.scrub import scrub
from clusteragent.lib.words import escape_controls, listed, plain_count

# Exit codes beside 0, all runs on: something restarts, moves or stops; and nothing could be read or compared.
CHANGES, UNREADABLE = 1, 2
# The most rows of a table that the act keeps.
MOST_ON_RECORD = 100


class Command(ActingCommand):
    help = (
        "Take over who runs what from another cluster agent, so that its checks run on where they run."
        " Without --apply only says what would happen. Exit status: 0 all runs on, 1 something restarts, moves or stops, 2 its"
        " map could not be read or compared."
    )
    refusals = (NotReady,)

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument(
            "--from", dest="url", metavar="URL", help="its URL, as https://dca:5005; it must be the leader"
        )
        where.add_argument("--file", type=Path, help="its state, saved: the answer of GET /api/v1/clusterchecks")
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="its local token (auth_token); for --from")
        parser.add_argument(
            "--ca", type=Path, metavar="FILE", help="verifies its certificate; unverified without, as by agents"
        )
        parser.add_argument("--apply", action="store_true", help="do it")
        commandline.add(parser, "--accept-dangling", "--note", "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            state = self.read(options)
            forecast = adopting.forecast(state)
            older = list(moved_since(_written(options["file"])))
            if options["apply"]:
                require_accepted(forecast.objections, commandline.accepted(options))
                worse = [one.reason for one in forecast.objections]
                foresee(sentences(forecast), worse=worse, tables=tables(forecast))
            outcome = self.apply(state, options["note"]) if options["apply"] else ""
        except (UnreadableState, NotReady) as error:
            raise CommandError(escape_controls(str(error)), returncode=UNREADABLE) from error
        except NotAccepted as refusal:
            raise commandline.unaccepted(refusal) from refusal
        except StalePlan as stale:
            raise CommandError(f"something changed meanwhile, adopt again: {described(stale)}") from stale
        document = to_document(forecast) | {"applied": options["apply"] and not outcome}
        document["sentences"] = [*older, *document["sentences"]]
        report = lines(state, forecast, is_applied=options["apply"])
        commandline.answer(self, options, document, [*older, *report])
        if outcome:
            raise CommandError(f"{outcome}; adopt again, it does the rest")
        if forecast.matching.restarts or forecast.matching.stops or forecast.outlook.later:
            raise SystemExit(CHANGES)

    def read(self, options: dict[str, Any]) -> State:
        """Read the state that the options name. Raises UnreadableState and CommandError."""
        try:
            if options["file"]:
                return states.read(options["file"].read_bytes())
            if not options["token_file"]:
                raise CommandError("--from needs --token-file: its local token", returncode=UNREADABLE)
            if not (token := options["token_file"].read_text().strip()):
                raise CommandError(f"{options['token_file']} is empty", returncode=UNREADABLE)
        except (OSError, UnicodeDecodeError) as error:
            file = options["file"] or options["token_file"]
            raise UnreadableState(f"{file}: {getattr(error, 'strerror', None) or error}") from error
        if not options["ca"]:
            self.stderr.write(f"The certificate of {options['url']} is not verified: give --ca to verify it.")
        return states.read(states.fetch(options["url"], token, ca=options["ca"]))

    def apply(self, state: State, note: str) -> str:
        """Adopt the state. Returns what stopped it; empty when nothing did."""
        _, plan = adopting.adopt(state, actor=commandline.actor(), note=note)
        return plan.outcome


def lines(state: State, forecast: Forecast, *, is_applied: bool) -> Iterator[str]:
    """Yield the report as lines of text."""
    found, outlook = forecast.matching, forecast.outlook
    yield (
        f"{plain_count(len(forecast.nodes), 'node')} there, of which {len(forecast.new_nodes)} did not report here yet;"
        f" {_configs(len(found.unchanged), 'run')} on without a restart"
    )
    if state.is_scrubbed:
        yield "Secrets were taken out of that state: configs with some can't be compared, and are shown as if they differed."
    yield from _restarts(found.restarts)
    yield from _section("stop", [f"{scrub(one.name)} on {one.node}: {one.why}" for one in found.stops])
    starts = [f"{one.title}: it does not run there{_starting(one, outlook)}" for one in found.starts]
    yield from _section("start", starts, " here")
    yield from _section(
        "move", [f"{pair.ours.title}: {was} → {pair.node}" for was, pair in _moved(forecast)], " here now"
    )
    moving = [(pair, outlook.later[pair.ours.id]) for pair in found.pairs if pair.ours.id in outlook.later]
    later = [f"{_shown(pair)}: {one.why} → {one.to or 'nobody'}" for pair, one in moving]
    yield from _section("move", later, " by rules here, once the nodes have fetched them")
    yield from told(forecast)
    if not freezes.why_off():
        yield "Balancing begins once nodes have fetched what they run, and may move some then: `freeze` keeps all where it is."
    yield "Adopted." if is_applied else "Nothing was changed: give --apply to adopt it."


def told(forecast: Forecast) -> list[str]:
    """Return all that adopting means, what must be accepted first."""
    return [*(one.reason for one in forecast.objections), *sentences(forecast)]


def sentences(forecast: Forecast) -> list[str]:
    """Return what adopting means besides what must be accepted: why something finds no node, and the highest load."""
    return [*why_nowhere(forecast.outlook.why), forecast.outlook.load]


def tables(forecast: Forecast) -> dict[str, list[tuple[str, ...]]]:
    """Return what stops, starts, restarts and moves, for the act: {title: rows of what, and why or where}."""
    found, outlook = forecast.matching, forecast.outlook
    later = [(pair, outlook.later[pair.ours.id]) for pair in found.pairs if pair.ours.id in outlook.later]
    rows: dict[str, list[tuple[str, ...]]] = {
        "Stop": [(f"{one.name} on {one.node}", one.why) for one in found.stops],
        "Start here": [
            (one.title, outlook.owners.get(one.id) or outlook.starts.get(one.id) or "nobody") for one in found.starts
        ],
        "Move by rules here": [(f"{pair.ours.title}, {one.why}", pair.node, one.to or "nobody") for pair, one in later],
        "Move here": [(pair.ours.title, was, pair.node) for was, pair in _moved(forecast)],
        "Restart once": [(f"{pair.ours.title} on {pair.node}", "; ".join(pair.changes)) for pair in found.restarts],
    }
    return {title: some[:MOST_ON_RECORD] for title, some in rows.items() if some}


def _starting(one: Ours, outlook: Outlook) -> str:
    """Where a config that does not run there runs here, or would."""
    if one.id in outlook.owners:
        return f", and runs on {outlook.owners[one.id]} here"
    if to := outlook.starts.get(one.id):
        return f", and would go to {to}"
    return ", and no node here can have it" if one.id in outlook.starts else ""


def _moved(forecast: Forecast) -> Iterator[tuple[str, Pair]]:
    """What runs on another node here than there, each with its node here."""
    for pair in forecast.matching.pairs:
        if (was := forecast.outlook.owners.get(pair.ours.id)) and was != pair.node:
            yield was, pair


def _written(file: Path | None) -> datetime | None:
    """When a file was written; None for what is no file, and for none."""
    if file is None or not file.is_file():
        return None
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def to_document(forecast: Forecast) -> dict[str, Any]:
    """Return the report as JSON data."""
    found, outlook = forecast.matching, forecast.outlook
    pairs = [_row(one.ours) | {"node": one.node} for one in found.pairs]
    described = list(zip(found.pairs, pairs, strict=True))
    return {
        "nodes": forecast.nodes,
        "new_nodes": forecast.new_nodes,
        "run_on": [row for one, row in described if not one.changes],
        "restart": [row | {"why": list(one.changes)} for one, row in described if one.changes],
        "stop": [{"name": scrub(one.name), "node": one.node, "why": one.why} for one in found.stops],
        "start": [
            _row(one) | {"node": outlook.owners.get(one.id, outlook.starts.get(one.id, ""))} for one in found.starts
        ],
        "move": [_row(pair.ours) | {"from_node": was, "to_node": pair.node} for was, pair in _moved(forecast)],
        "move_later": [
            row | {"why": outlook.later[one.ours.id].why, "to_node": outlook.later[one.ours.id].to}
            for one, row in described
            if one.ours.id in outlook.later
        ],
        "sentences": list(told(forecast)),
        "needs": [one.accepted_by for one in forecast.objections],
    }


def _row(ours: Ours) -> dict[str, str]:
    return {"digest": ours.digest, "name": scrub(ours.body.name), "title": ours.title}


def _restarts(pairs: list[Pair]) -> Iterator[str]:
    """What restarts, by reason: most have the same."""
    reasons = Counter(pair.changes for pair in pairs)
    for changes, number in reasons.most_common():
        alike = [_shown(pair) for pair in pairs if pair.changes == changes]
        yield f"{_configs(number, 'restart')} once: {'; '.join(changes)}: {listed(alike)}"


def _section(verb: str, rows: list[str], rest: str = "") -> Iterator[str]:
    if rows:
        yield f"{_configs(len(rows), verb)}{rest}:"
    yield from (f"  {row}" for row in rows)


def _shown(pair: Pair) -> str:
    return f"{pair.ours.title} on {pair.node}"


def _configs(number: int, verb: str) -> str:
    """How many configs do something."""
    return f"{plain_count(number, 'config')} {verb}{'s' if number == 1 else ''}"
