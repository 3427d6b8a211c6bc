import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import sources
from checks.explain import rehearsed
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.wire import lint
from checks.wire.scrub import scrub
from clusteragent.lib.words import agreeing, escape_controls, listed, plain_count


class Command(ActingCommand):
    help = (
        "Sync with the config sources now, and print their errors and warnings. Exits with 1 when there are errors or held"
        " removals."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--accept-removals", action="store_true", help="also remove what is held")
        parser.add_argument("--strict", action="store_true", help="also exit with 1 when there are warnings")
        commandline.add(parser, "--json")
        commandline.add(
            parser, "--dry-run", help="only show what would be added, changed and removed, and where it would run"
        )
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        how = {"accept_removals": options["accept_removals"], "actor": commandline.actor()}
        try:
            # Who tries it out has the map locked: it reads before that, and waits for no file that is being written.
            is_dry = options["dry_run"]
            ahead, patience = (sources.read_ahead(), 0.0) if is_dry else ({}, sources.PATIENCE)
            with commandline.trial(options):
                before = rehearsed.read() if is_dry else None
                report = sources.sync_settled(**how, patience=patience, ahead=ahead)
                sources.add_watched(report, **how)
                document, follows = self.foretell(report, before) if before else ({}, [])
        except sources.SyncUnderWay as error:
            raise CommandError("another sync is under way, try again") from error
        if options["json"]:
            found = {name: getattr(report, name) for name in ("errors", "warnings", "passed_over")}
            document |= asdict(report) | {name: [one._asdict() for one in listed] for name, listed in found.items()}
            self.stdout.write(json.dumps(document | commandline.as_told(options), indent=2))
        else:
            self.show(report, follows, is_dry=is_dry)
        if report.errors or report.held or (options["strict"] and report.warnings):
            number = f"{report.number('errors')} in error, {len(report.held)} removals held"
            raise CommandError(number + _and_warnings(report))

    def foretell(self, report: sources.Report, before: rehearsed.Map) -> tuple[dict[str, Any], list[str]]:
        """What follows on the map, for programs and for people."""
        if not (report.added or report.changed or report.removed):
            return {"sentences": [], "moves": []}, []
        return commandline.foretold(rehearsed.since(before, "Sync with the config sources"))

    def show(self, report: sources.Report, follows: Iterable[str], *, is_dry: bool) -> None:
        """Print what was done, or would be, with what follows on the map, and the findings."""
        would = "would be " if is_dry else ""
        for line in (*_lines(report, would), *follows):
            self.stdout.write(escape_controls(line))
        if is_dry and report.unsettled:
            self.stdout.write("Something is being written just now, which is left out: try again.")
        for notice in report.warnings:
            self.stdout.write(self.style.WARNING(escape_controls(f"warning: {lint.without_secrets(*notice)}")))
        for problem in report.errors:
            self.stdout.write(self.style.ERROR(escape_controls(f"error: {lint.without_secrets(*problem)}")))
        others = agreeing(report.other_checks, "that is no cluster check", "that are no cluster checks")
        self.stdout.write(
            f"{would}{len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed,"
            f" {plain_count(report.other_checks, 'config')} {others}{_and_warnings(report)}{_and_more(report)}"
        )


def _lines(report: sources.Report, would: str) -> Iterator[str]:
    """What became of each key, a line each, without secrets."""
    for what in ("added", "changed", "removed"):
        yield from (f"{would}{what}: {scrub(key)}" for key in getattr(report, what))
    yield from (f"passed over: {lint.without_secrets(one.where, None, one.why)}" for one in report.passed_over)
    yield from (f"held: {scrub(key)} is gone; use --accept-removals to remove it" for key in report.held)
    yield from (f"{would}accepted: {scrub(key)} is gone; the leader removes it" for key in report.accepted)


def _and_warnings(report: sources.Report) -> str:
    return f", {plain_count(report.number('warnings'), 'warning')}" if report.warnings else ""


def _and_more(report: sources.Report) -> str:
    numbers = [f"{number} more {kind.replace('_', ' ')}" for kind, number in report.left_out.items()]
    return f"; {listed(numbers)} not listed" if numbers else ""
