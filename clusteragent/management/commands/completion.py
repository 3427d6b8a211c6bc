"""`clusteragent completion`: what a shell needs to complete our commands and their options."""

from typing import Any

import shtab
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser

from clusteragent.command import VERBS

SHELLS = ("bash", "zsh", "fish")


class Command(BaseCommand):
    help = 'Print the completion for a shell. bash: eval "$(clusteragent completion bash)" in ~/.bashrc.'
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("shell", choices=SHELLS)

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(shtab.complete(parser(), options["shell"]))


def parser() -> CommandParser:
    """Return a parser of all commands with their own options."""
    whole = CommandParser(prog="clusteragent")
    commands = whole.add_subparsers(dest="command")
    for verb, sentence in VERBS.items():
        command = load_command_class(str(get_commands()[verb]), verb)
        command.add_arguments(commands.add_parser(verb, help=sentence, description=command.help))
    return whole
