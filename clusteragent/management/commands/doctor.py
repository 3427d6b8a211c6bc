"""`clusteragent doctor`: checks what the program needs to run on this machine."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.management import commandline
from clusteragent import doctor


class Command(BaseCommand):
    help = (
        "Check options, tokens, certificate, database, clock, schema, runners, single sign-on and Kubernetes from this machine, "
        "name weak defaults that are on, and say what to do. Exits with 0 if all is well, with 1 if there are warnings, and "
        "with 2 if something fails."
    )
    # They are among what is told.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a line for each finding. Exits with the code of the worst."""
        found = list(doctor.examine())
        document = {"findings": [finding._asdict() for finding in found]}
        lines = [f"{one.level:4}  {one.topic}: {one.text} {one.remedy}".rstrip() for one in found]
        commandline.answer(self, options, document, lines)
        sys.exit(doctor.worst(found))
