"""Failing checks by what they say: many configs that fail for one reason are one failure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db.models import F

from checks.models import Config, Instance
from checks.models.troubles import Trouble, put_handles_back, whole_error
from nodes.models import RunnerStats

# The most failing configs that are looked at: those that have failed longest.
MOST = 5_000
# Of so many configs of each failure the teams are read, and the most characters of an error that are compared.
_READ, _COMPARED = 20, 500
# What differs between the errors of one failure: addresses, quoted words, names of hosts, and whatever has a digit.
_VARIES = re.compile(
    r"""[a-z][a-z0-9+.-]*://[^\s"'()]*[^\s"'():,.] | "[^"]*" | (?<!\w)'[^']*'(?!\w)
    | [\w./:@-]*\d(?:[\w./:@-]*\w)? | \b[\w-]+(?:\.[\w-]+)+(?::\d+)?""",
    re.VERBOSE | re.IGNORECASE,
)
_TEAM = re.compile(r"""\bteam:([^\s,'"\][{}]+)""")


@dataclass
class Failure:
    """Configs of one check whose last runs failed with the same words.

    pattern: the error with `*` for what differs. example: the error of the config that has failed longest. nodes: {name: number
    of configs}. since: since when the first one fails. last_good: when one of them last succeeded; None if none says so.
    """

    check: str
    pattern: str
    example: str
    since: datetime
    configs: list[Config] = field(default_factory=list)
    nodes: Counter[str] = field(default_factory=Counter)
    teams: Sequence[str] = ()
    last_good: datetime | None = None


def pattern_of(error: str) -> str:
    """Return an error's words, with `*` for what differs from config to config."""
    return " ".join(_VARIES.sub("*", error[:_COMPARED]).split())


def read() -> tuple[list[Failure], bool]:
    """Return the failures by the last stats, those of most configs first, and whether there are more than MOST configs."""
    rows = Trouble.objects.current().filter(kind=Trouble.Kind.FAILING).order_by("since", "config_id")
    since = dict(rows.values_list("config_id", "since")[: MOST + 1])
    ids = list(since)[:MOST]
    found: dict[tuple[str, str], Failure] = {}
    for config, node, stats in _failing(ids):
        error = whole_error(stats.last_error) or "failed"
        key = config.name, pattern_of(error)
        failure = found.setdefault(key, Failure(*key, error, since[config.pk]))
        if config not in failure.configs:
            failure.configs.append(config)
            failure.nodes[node] += 1
        if stats.last_success:
            good = datetime.fromtimestamp(stats.last_success, UTC)
            failure.last_good = max(failure.last_good or good, good)
    _read_teams(found.values())
    ordered = sorted(found.values(), key=lambda one: (-len(one.configs), one.since, one.check, one.pattern))
    return ordered, len(since) > MOST


def _failing(ids: Sequence[int]) -> Iterable[tuple[Config, str, RunnerStats]]:
    """Each failing instance of these configs, in their order: (config, its node's name, what that told)."""
    shown: Any = Config.objects.only("name", "title", "digest").annotate(
        owner=F("assignment__node_id"), node=F("assignment__node__name")
    )
    configs = shown.in_bulk(ids)
    owned: dict[str, list[Any]] = defaultdict(list)
    for check_id, config_id in Instance.objects.filter(config__in=ids).values_list("check_id", "config_id"):
        if config_id in configs:
            owned[check_id].append(configs[config_id])
    stats = list(RunnerStats.objects.filter(check_id__in=list(owned), failed=True))
    put_handles_back(stats)
    place = {id_: number for number, id_ in enumerate(ids)}
    told = [(config, one) for one in stats for config in owned[one.check_id] if config.owner == one.node_id]
    for config, one in sorted(told, key=lambda row: (place[row[0].pk], row[1].pk)):
        yield config, config.node, one


def _read_teams(failures: Iterable[Failure]) -> None:
    """Set whose configs they are, by the tags `team:…` in their instances."""
    asked = {config.pk: failure for failure in failures for config in failure.configs[:_READ]}
    teams: dict[int, set[str]] = defaultdict(set)
    for pk, original in Config.objects.filter(pk__in=asked).values_list("pk", "original"):
        teams[id(asked[pk])].update(_TEAM.findall(" ".join(map(str, original.get("instances") or ()))))
    for failure in failures:
        failure.teams = sorted(teams[id(failure)])
