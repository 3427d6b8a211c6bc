"""What the documentation shows is spelt as the program takes it."""

import re
import runpy
import shlex
from argparse import ArgumentParser

import pytest
from django.core.management.base import CommandError

from clusteragent.command import INTERNAL, VERBS
from clusteragent.lib import conf, options
from clusteragent.management.commands import completion
from tests.documentation.pages import ELSEWHERE, ELSEWHERE_AS_A_WHOLE, PAGES, ROOT, commands, elsewhere

ALL = [command for page in PAGES.values() for command in commands(page)]
# A command of ours, up to what the shell does with it.
_OURS = re.compile(
    r"(?:^|\$\(|[|;&] )(?:clusteragent|\.venv/bin/python manage\.py) ([a-z]+\b(?:\"[^\"]*\"|'[^']*'|[^\"'|;&)#<>\n])*)",
    re.MULTILINE,
)
_INLINE = re.compile(r"`(?:clusteragent|(?:\.venv/bin/python )?manage\.py) ([a-z]+)\b([^`]*)`")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parsers() -> dict[str, ArgumentParser]:
    (choices,) = (each.choices for each in completion.parser()._actions if isinstance(each.choices, dict))
    return choices


def shown() -> list[str]:
    """Return each command of ours in a block."""
    return sorted({match.strip() for command in ALL for match in _OURS.findall(command)})


@pytest.mark.parametrize("line", shown())
def test_a_command_that_is_shown_is_taken(line: str) -> None:
    verb, *words = shlex.split(line)
    assert verb in VERBS
    try:
        parsers()[verb].parse_args(words)
    except CommandError as error:
        pytest.fail(f"clusteragent {line}: {error}")


def test_commands_within_a_sentence_are_known() -> None:
    known = parsers()
    for name, page in PAGES.items():
        for verb, rest in _INLINE.findall(page.read_text()):
            assert verb in VERBS or verb in INTERNAL or verb == "start", f"{name}: {verb}"
            if verb in known:
                options = {option for action in known[verb]._actions for option in action.option_strings}
                assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"{name}: {verb}{rest}"


def test_targets_of_make_are_known() -> None:
    for name, page in PAGES.items():
        named = re.findall(
            r"(?:^|`| )make ([a-z][a-z-]+)",
            "\n".join([*commands(page), *re.findall(r"`make [^`]*`", page.read_text())]),
        )
        assert set(named) <= TARGETS, name


def settings() -> list[str]:
    """Return each `OPTION=value` of ours that is shown and is no file's name: not what a reader puts in, nor what is quoted."""
    shown = "\n".join(page.read_text() for page in PAGES.values())
    found = re.findall(r"\b(?:CLUSTERAGENT|DD)_[A-Z_]+=[a-z0-9][^\s`'\",;|)]*", shown)
    return sorted({one for one in found if one.partition("=")[0] in options.READ})


@pytest.mark.parametrize("setting", settings())
def test_a_value_that_is_shown_is_allowed(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*setting.split("=", 1))
    runpy.run_path(conf.__file__)


@pytest.mark.parametrize("beginning", ELSEWHERE)
def test_each_exception_is_still_shown_somewhere(beginning: str) -> None:
    assert any(elsewhere(command) == beginning for command in ALL)


@pytest.mark.parametrize("name", ELSEWHERE_AS_A_WHOLE)
def test_each_page_that_is_an_exception_shows_commands(name: str) -> None:
    assert [command for command in commands(PAGES[name]) if not elsewhere(command)]


def test_blocks_say_what_they_are() -> None:
    for name, page in PAGES.items():
        for language, line in re.findall(r"^ *```(\w*)\n *(.*)", page.read_text(), re.MULTILINE):
            assert (
                language in {"sh", "console"}
                or not re.match(r"(clusteragent|curl|make|helm|kubectl) ", line)
                or (language == "text" and name == "docs/reference/commands.md")
            ), f"{name}: {line}"
