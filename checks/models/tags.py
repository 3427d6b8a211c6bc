"""The tags of instances, as the display copies of configs have them: each is an item of a list, written as agents get it."""

import re
from collections.abc import Iterable
from typing import Any

import yaml
from django.db.models import Case, F, Func, Q, TextField, Value, When
from django.db.models.functions import Coalesce, Length, NullIf
from django.db.models.lookups import GreaterThan

from checks.models.configs import displayable
from checks.wire import goyaml, options

TEAM, SERVICE = "team:", "service:"
# A tag that YAML folds goes on in lines that are indented more.
_TAGS = re.compile(r"^(?:- |  )tags:\n((?:  - .*\n(?:(?: {4}.*)?\n)*)+)", re.MULTILINE)
# The instances, whose lines alone are indented below that key, and where one begins.
_INSTANCES = re.compile(r"^instances:\n((?:(?:- |  ).*\n)+)", re.MULTILINE)
_BEGINNING = re.compile(r"^- ", re.MULTILINE)
_ITEM = re.compile(r"^  - ", re.MULTILINE)
_QUOTES = ("", "'", '"')
# YAML folds no item whose first line is that short. The rest of an item, with the lines in which it goes on.
_SHORT, _WHOLE = 60, r"([^\n]*(?:\n {4}[^\n]*)*)"


def tags_in(text: str) -> list[str]:
    """The tags in a config's text, in its order."""
    items = (item for found in _TAGS.finditer(text) for item in _ITEM.split(found[1])[1:])
    return list(dict.fromkeys(map(_read, items)))


def own_and_common(tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """A config's own tags, whose it is and what it watches first, and those that the options add to each instance."""
    common = {*options.extra_tags()}
    ordered = sorted(tags, key=lambda tag: (not tag.startswith(TEAM), not tag.startswith(SERVICE)))
    return [tag for tag in ordered if tag not in common], [tag for tag in ordered if tag in common]


def teams_in(text: str) -> list[str]:
    """The teams in a config's text: what its tags `team:…` name."""
    return teams_among(tags_in(text))


def teams_among(tags: Iterable[str]) -> list[str]:
    """The teams that these tags name, in their order."""
    return [team for tag in tags if tag.startswith(TEAM) and (team := tag.removeprefix(TEAM))]


def tags_of_instances(text: str) -> list[list[str]]:
    """The tags of each instance in a config's text."""
    instances = _INSTANCES.search(text)
    return [tags_in(f"- {one}") for one in _BEGINNING.split(instances[1])[1:]] if instances else []


def with_tag(tag: str) -> Q:
    """Configs whose text has this tag."""
    written = goyaml.write(goyaml.texts_node([tag])).removeprefix("- ").rstrip("\n").replace("\n", "\n  ")
    found = _with_item(f"{written}\n")
    # What is a number or a truth may stand there without quotes, as its author wrote it.
    return found | _with_item(f"{tag}\n") if written == f'"{tag}"' else found


def with_tag_beginning(beginning: str) -> Q:
    """Configs whose text has a tag that begins so, in quotes or not."""
    return _with_item(beginning) | _with_item(f"'{beginning}") | _with_item(f'"{beginning}')


def first_team(text: str = "text") -> Coalesce:
    """Expression: the first tag `team:…` in a text of a config as it is written, which `team_of` reads; empty if there is none.

    Texts are split where that is enough: a regular expression takes several times as long.
    """
    return Coalesce(*(_first_team(text, quote) for quote in _QUOTES), _text(""), output_field=TextField())


def team_of(written: str) -> str:
    """The team that `first_team` found; empty for none."""
    return _read(written).removeprefix(TEAM) if written else ""


def _first_team(text: str, quote: str) -> NullIf:
    """Expression: the first item that begins with this quote and TEAM and says more; NULL if none does."""
    beginning = f"\n  - {quote}{TEAM}"
    line = _part(_part(F(text), beginning, 2), "\n", 1)
    whole = Func(F(text), _text(beginning + _WHOLE), function="substring", output_field=TextField())
    rest = Case(When(GreaterThan(Length(line), _SHORT), then=whole), default=line)
    begun = _text(f"{quote}{TEAM}")
    return NullIf(Func(begun, rest, function="concat", output_field=TextField()), begun)


def _part(text: Any, by: str, number: int) -> Func:
    return Func(text, _text(by), Value(number), function="split_part", output_field=TextField())


def _text(value: str) -> Value:
    return Value(value, output_field=TextField())


def _read(item: str) -> str:
    """The text of an item of a list in YAML."""
    item = item.rstrip("\n")
    return str(yaml.safe_load(item)) if item[0] in "\"'|>" or "\n" in item else item


def _with_item(beginning: str) -> Q:
    """Configs whose text has an item of an instance's list that begins so."""
    return displayable() & Q(text__contains=f"\n  - {beginning}")
