"""The tags of instances, as the display copies of configs have them: each is an item of a list, written as agents get it."""

import re
from collections.abc import Iterable
from typing import Any

import yaml
from django.db import connection
from django.db.models import Case, F, QuerySet, TextField, When

from checks.models.configs import SearchedText, displayable
from checks.wire import goyaml, options, scrub

TEAM, SERVICE = "team:", "service:"
# A tag that YAML folds goes on in lines that are indented more. The database reads texts so, too: migration 0047.
_TAGS = re.compile(r"^(?:- |  )tags:\n((?:  - .*\n(?:(?: {4}.*| *)\n)*)+)", re.MULTILINE)
# The instances, whose lines alone are indented below that key, and where one begins.
_INSTANCES = re.compile(r"^instances:\n((?:(?:- |  ).*\n)+)", re.MULTILINE)
_BEGINNING = re.compile(r"^- ", re.MULTILINE)
_ITEM = re.compile(r"^  - ", re.MULTILINE)
_QUOTES = ("", "'", '"')
# The most characters of a tag that is read, and tags that a completion counts.
LONGEST = 2600
MOST_READ = 2000
_BEGINNING_SO = """
    SELECT tag FROM (
        SELECT tag FROM checks_searchedtext, unnest(tags) AS tag
        WHERE patched_with LIKE %s AND (starts_with(tag, %s) OR starts_with(tag, %s) OR starts_with(tag, %s))
        LIMIT %s
    ) AS found
    GROUP BY tag ORDER BY count(*) DESC, tag LIMIT %s
"""


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


def with_tag(tag: str) -> QuerySet[Any]:
    """The ids of the configs whose text has this tag."""
    written = goyaml.write(goyaml.texts_node([tag])).removeprefix("- ").rstrip("\n").replace("\n", "\n  ")
    # What is a number or a truth may stand there without quotes, as its author wrote it.
    ways = [written, tag] if written == f'"{tag}"' else [written]
    return SearchedText.objects.filter(displayable(), tags__overlap=ways).values("config")


def commonest(beginning: str, most: int) -> list[str]:
    """So many tags that begin so, the commonest first, of the first configs that have any."""
    ways = (f"{quote}{beginning}" for quote in _QUOTES)
    with connection.cursor() as cursor:
        cursor.execute(_BEGINNING_SO, [f"{scrub.VERSION}.%", *ways, MOST_READ, most])
        return [tag for (written,) in cursor.fetchall() if (tag := _read(written)).startswith(beginning)]


def first_team(config: str = "") -> Case:
    """Expression: the first tag `team:…` of a config as it is written, which `team_of` reads; empty if there is none.

    config: the path to the config. NULL for a text that this version did not make.
    """
    return Case(When(displayable(config), then=F(f"{config}searched__team")), output_field=TextField())


def team_of(written: str) -> str:
    """The team that `first_team` found; empty for none."""
    return _read(written).removeprefix(TEAM) if written else ""


def _read(item: str) -> str:
    """The text of an item of a list in YAML."""
    item = item.rstrip("\n")
    # No page shows, and no query has, as much as what would take long to read.
    if (item[:1] not in ("'", '"', "|", ">") and "\n" not in item) or len(item) > LONGEST:
        return item
    try:
        read = yaml.safe_load(f"{item}\n")
    except yaml.YAMLError:
        read = None
    # A map or a list is no tag, and is shown as it is written.
    return read if isinstance(read, str) else item
