from typing import Any

from django.core.management.base import CommandError, CommandParser

from acts.recording import foresee
from checks.explain import forecasts
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib.words import escape_controls, listed
from nodes import runnercertificates
from nodes.models import UnknownNode


class Command(ActingCommand):
    help = (
        "Accept the certificates that runners show now instead of those that they began with"
        " (CLUSTERAGENT_RUNNER_CERTIFICATES=pinned): they are asked for stats again, with our token."
    )

    refusals = (runnercertificates.NoOffer,)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", nargs="+", help="a node's name")
        commandline.add(parser, "--json")
        commandline.add(parser, "--dry-run", help="only show the certificates, and what would follow")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        names = sorted(set(options["node"]))
        try:
            offers = runnercertificates.offers_of(names)
            if options["dry_run"]:
                commandline.show_forecast(self, options, lambda: forecasts.accept_certificates(offers))
                return
            told = forecasts.accept_certificates(offers)
            foresee(told.sentences, nodes=sorted(told.nodes))
            accepted = runnercertificates.accept(offers)
        except (UnknownNode, runnercertificates.NoOffer) as error:
            raise CommandError(escape_controls(str(error))) from error
        lines = [f"the certificate of {listed(accepted)} is accepted"]
        commandline.answer(self, options, {"accepted": accepted}, lines)
