"""Writes the pages of the reference that the program itself knows: `make reference`.

They are kept in the repository, so that they can be read there and a review shows what changes. A test says when they are old.
"""

import re
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import django

from clusteragent.command import GROUPS, VERBS
from clusteragent.lib import conf
from clusteragent.lib.options import READ
from clusteragent.management.commands import completion

FOLDER = Path(__file__).parent / "reference"
# Their options are Django's, which describes them.
DJANGOS = {"migrate", "createsuperuser", "changepassword", "check"}
_NAME = re.compile(r'"((?:DD|CLUSTERAGENT)_\w+|DATABASE_URL)"')

OPTIONS = """# Options

Options are environment variables. Names that begin with `DD_` are the Datadog Cluster Agent's, with its defaults and forms where
it has the option. Each option can be given as a file, too: `NAME_FILE` is the path of a file that holds the value. An option that
is empty counts as not set.

A wrong value stops the start with a line that says what is allowed. Every other `DD_` variable of the environment is named at the
start in one line, with the reason why it does nothing here. `clusteragent check` says of each whether it is honoured. A name that
begins with `DD_CLUSTER_CHECKS_` or `CLUSTERAGENT_` and is no option is a warning with the nearest name.

A duration is a number of seconds (`30`), or numbers with units: `500ms`, `90s`, `10m`, `1h30m`.
"""
COMMANDS = """# Commands

`clusteragent` is the installed command. In a clone of the repository it is `.venv/bin/python manage.py`, with the same words
after it. There `clusteragent agents` is `manage.py serve agents`, `clusteragent operators` is `manage.py serve operators`, and
`clusteragent all` is `manage.py start`.

`clusteragent --help` lists the commands, `clusteragent COMMAND --help` describes one, and `clusteragent completion SHELL` lets a
shell complete them. A config is named by its digest, a check ID or a short ID. A command exits with another status than 0 when it
could not do what was asked, and names the thing.
"""


class Described(NamedTuple):
    """What conf.py says of an option."""

    name: str
    section: str
    meaning: str
    default: str


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    return {FOLDER / "options.md": OPTIONS + _options(), FOLDER / "commands.md": COMMANDS + _commands()}


def _options() -> str:
    sections = groupby(described(Path(conf.__file__).read_text()), key=lambda one: one.section)
    return "".join(f"\n## {title}\n" + "".join(map(_option, ones)) for title, ones in sections)


def described(source: str) -> Iterator[Described]:
    """Yield the options of conf.py's source with what its comments say of them."""
    section, comment = "", []
    for before, line in pairwise(["", *source.splitlines()]):
        if not before and line.startswith("# "):
            section = line.removeprefix("# ").partition(".")[0]
        elif line.lstrip().startswith("#: "):
            comment.append(line.lstrip().removeprefix("#: "))
        elif comment and (match := _NAME.search(line)):
            meaning, _, default = " ".join(comment).partition(" Default: ")
            yield Described(match[1], section, meaning, default.removesuffix("."))
            comment = []


def _option(one: Described) -> str:
    default, allowed = READ[one.name]
    said = one.default or (f"`{default}`" if default else "not set")
    return f"\n### {one.name}\n\n{one.meaning}\n\n- Default: {said}\n- Allowed: {allowed}\n"


def _commands() -> str:
    (parsers,) = (each.choices for each in completion.parser()._actions if isinstance(each.choices, dict))
    return "".join(
        f"\n## {title}\n" + "".join(_command(verb, parsers[verb]) for verb in verbs) for title, verbs in GROUPS.items()
    )


def _command(verb: str, parser: ArgumentParser) -> str:
    if verb in DJANGOS:
        sentence = VERBS[verb][0].upper() + VERBS[verb][1:]
        return f"\n### {verb}\n\n{sentence}. It takes Django's options: `clusteragent {verb} --help`.\n"
    actions = [each for each in parser._actions if each.dest != "help"]
    usage = " ".join([f"clusteragent {verb}", *map(_usage, actions)])
    return f"\n### {verb}\n\n{parser.description}\n\n```text\n{usage}\n```\n" + "".join(_table(actions))


def _table(actions: list[Action]) -> Iterator[str]:
    if any(each.help for each in actions):
        yield "\n| argument | meaning |\n|---|---|\n"
        for each in actions:
            text = " ".join((each.help or "").split()) % vars(each)
            yield f"| `{_escaped(_name(each))}` | {_escaped(text)} |\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


def _name(action: Action) -> str:
    return " ".join([", ".join(action.option_strings), _value(action)]).strip()


def _value(action: Action) -> str:
    if action.nargs == 0:
        return ""
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return (choices or metavar) + ("…" if action.nargs in ("+", "*") else "")


def _usage(action: Action) -> str:
    words = " ".join([*action.option_strings[-1:], _value(action)]).strip()
    return words if action.required and action.nargs != "*" else f"[{words}]"


def write() -> None:
    """Write each page."""
    for file, text in pages().items():
        file.write_text(text)


if __name__ == "__main__":
    django.setup()
    write()
