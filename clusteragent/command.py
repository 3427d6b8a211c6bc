"""`clusteragent`: the commands for users, without the options that Django gives to all of them."""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import django
from django.apps import apps
from django.core import checks
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from clusteragent.lib import spelling
from clusteragent.lib.database import unusable
from clusteragent.lib.locks import Pooled
from clusteragent.lib.options import OptionError
from clusteragent.lib.version import VERSION

# Not read from the commands: the list is also shown where options are wrong.
GROUPS = {
    "Run it": {
        "all": "run everything on this machine, or in this container",
        "agents": "serve node agents, on port 5005",
        "operators": "serve operators, on port 5006: the admin, the API, metrics",
        "runagent": "be a candidate for the leader's work",
        "simulatenodes": "simulate node agents",
    },
    "Set it up": {
        "migrate": "bring the database's schema up to date, and make the first operator",
        "createsuperuser": "make a user of the admin who may do everything",
        "changepassword": "give a user of the admin another password",
        "createtoken": "make a token for the operators' API",
        "nodetoken": "make, list, set and revoke tokens of node agents",
        "unlock": "forget failed logins",
        "breakglass": "let an admin in by a password for an hour",
        "check": "check the options, and say what becomes of each of the Datadog Cluster Agent's",
        "learnintegrations": "add names to the list of known integrations",
        "completion": "print the completion of these commands for a shell",
    },
    "Look": {
        "status": "say whether all is well and what needs somebody",
        "doctor": "check what is needed to run, and say what to do",
        "clusterchecks": "show which node runs which configs",
        "why": "show why a check is where it is",
        "whatif": "show what would move if nodes went or came",
        "leader": "show who leads",
        "exportstate": "write the whole state to a file",
        "importstate": "read what exportstate wrote into this database",
        "adopt": "take over who runs what from another cluster agent",
    },
    "Act": {
        "syncconfigs": "read the config sources now",
        "redispatch": "place dangling configs now",
        "rebalance": "move configs from busy nodes to idle ones",
        "reassign": "give configs to a node",
        "pin": "pin configs to nodes",
        "unpin": "end pins",
        "pause": "let configs run nowhere",
        "resume": "end pauses",
        "isolate": "leave a check alone on its node",
        "release": "end an isolation or a quarantine",
        "plan": "list, show and apply plans",
        "drain": "move all configs away from nodes, bit by bit",
        "acceptcertificate": "accept the certificates that runners show now",
        "freeze": "balance nothing automatically for a while",
        "thaw": "end a freeze",
        "expirenodes": "take configs from nodes that expired now",
        "pruneledger": "delete what is past its retention",
    },
}
VERBS = {verb: sentence for group in GROUPS.values() for verb, sentence in group.items()}
# Processes of ours start them.
INTERNAL = {"serve", "runworker", "watchkubernetes"}
_DJANGO_OPTIONS = {
    "version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks"
}  # fmt: skip


def main() -> None:
    """Run the command that the process's arguments name. Exits with 2 for one that is not known."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
    with errors_in_one_line(2 if sys.argv[1:2] in (["status"], ["doctor"], ["adopt"]) else 1):
        match sys.argv[1:]:
            case [] | ["help" | "--help" | "-h"]:
                print(_overview())
            case ["--version"]:
                print(VERSION)
            case ["help", verb] if verb in VERBS:
                _run(verb, ["--help"])
            case [verb, *words] if verb in VERBS or verb in INTERNAL:
                _run(verb, words)
            case ["help", verb, *_] | [verb, *_]:
                print(_unknown(verb), file=sys.stderr)
                sys.exit(2)


@contextmanager
def errors_in_one_line(code: int = 1) -> Iterator[None]:
    """Exit with one line, and with `code`, for what users can mend: a wrong option, a database that is away or not migrated."""
    try:
        yield
    except (OptionError, Pooled) as error:
        print(error, file=sys.stderr)
        sys.exit(code)
    except DatabaseError as error:
        if "--traceback" in sys.argv or not (why := unusable(error)):
            raise
        print(why, file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        # Whoever read our output has enough of it; what is still buffered must not fail again on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = ["usage: clusteragent COMMAND [ARGUMENTS]"]
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {verb:{width}}  {sentence}" for verb, sentence in verbs.items())]
    return "\n".join(
        [*lines, "", "`clusteragent COMMAND --help` describes a command, `clusteragent --version` says which this is."]
    )


def _unknown(verb: str) -> str:
    meant = spelling.nearest(verb, VERBS, alike=0.6)
    return f"clusteragent: no command {verb!r}" + (
        f": is {meant!r} meant?" if meant else ": `clusteragent --help` lists them"
    )


def _run(verb: str, words: list[str]) -> None:
    # A second time it would configure the log anew, and loggers that were used before would not follow.
    if not apps.ready:
        django.setup()
    command = load_command_class(_app(verb), verb)
    command.create_parser = partial(_parser, command)  # type: ignore[method-assign]
    if verb != "check":
        command.check = _check  # type: ignore[method-assign, assignment]
    command.run_from_argv(["clusteragent", verb, *words])


def _check(**which: Any) -> None:
    """Run the system checks that a command asks for, and print a line for each warning. Raises OptionError, a line an error."""
    found = [one for one in checks.run_checks(**which) if not one.is_silenced()]
    told = [(one.is_serious(), " ".join(f"{one.msg} {one.hint or ''} ({one.id})".split())) for one in found]
    for is_serious, line in told:
        if not is_serious:
            print(f"warning: {line}", file=sys.stderr)
    if wrong := [line for is_serious, line in told if is_serious]:
        raise OptionError("\n".join(wrong))


def _app(verb: str) -> str:
    return str(get_commands()[verb])


def _parser(command: BaseCommand, program: str, verb: str, **options: Any) -> CommandParser:
    """Return the command's parser. It takes Django's options, and does not show them."""
    parser = type(command).create_parser(command, program, verb, **options)
    for action in parser._actions:
        if action.dest in _DJANGO_OPTIONS:
            action.help = SUPPRESS
    return parser
