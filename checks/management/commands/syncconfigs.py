import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from checks import sources
from checks.management import commandline
from checks.management.commandline import ActingCommand
from checks.wire.scrub import scrub
from clusteragent.lib.words import escape_controls, listed, plain_count


class Command(ActingCommand):
    help = (
        "Sync with the config sources now, and print their errors and warnings. Exits with 1 when there are errors or held"
        " removals."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--accept-removals", action="store_true", help="also remove what is held")
        parser.add_argument("--strict", action="store_true", help="also exit with 1 when there are warnings")
        commandline.add(parser, "--json")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = sources.sync_settled(accept_removals=options["accept_removals"], actor=commandline.actor())
        except sources.SyncUnderWay as error:
            raise CommandError("another sync is under way, try again") from error
        sources.add_watched(report, accept_removals=options["accept_removals"], actor=commandline.actor())
        if options["json"]:
            found = {name: getattr(report, name) for name in ("errors", "warnings", "passed_over")}
            document = asdict(report) | {name: [one._asdict() for one in listed] for name, listed in found.items()}
            self.stdout.write(json.dumps(document, indent=2))
        else:
            self.show(report)
        if report.errors or report.held or (options["strict"] and report.warnings):
            number = f"{report.number('errors')} in error, {len(report.held)} removals held"
            raise CommandError(number + _and_warnings(report))

    def show(self, report: sources.Report) -> None:
        for what in ("added", "changed", "removed"):
            for key in getattr(report, what):
                self.stdout.write(f"{what}: {escape_controls(scrub(key))}")
        for one in report.passed_over:
            self.stdout.write(escape_controls(scrub(f"passed over: {one.where}: {one.why}")))
        for key in report.held:
            self.stdout.write(f"held: {escape_controls(scrub(key))} is gone; use --accept-removals to remove it")
        for key in report.accepted:
            self.stdout.write(f"accepted: {escape_controls(scrub(key))} is gone; the leader removes it")
        for notice in report.warnings:
            self.stdout.write(self.style.WARNING(escape_controls(scrub(f"warning: {notice}"))))
        for problem in report.errors:
            self.stdout.write(self.style.ERROR(escape_controls(scrub(f"error: {problem}"))))
        self.stdout.write(
            f"{len(report.added)} added, {len(report.changed)} changed, {len(report.removed)} removed,"
            f" {report.other_checks} configs that are no cluster checks{_and_warnings(report)}{_and_more(report)}"
        )


def _and_warnings(report: sources.Report) -> str:
    return f", {plain_count(report.number('warnings'), 'warning')}" if report.warnings else ""


def _and_more(report: sources.Report) -> str:
    numbers = [f"{number} more {kind.replace('_', ' ')}" for kind, number in report.left_out.items()]
    return f"; {listed(numbers)} not listed" if numbers else ""
