"""Failing checks by what they say: many configs that fail for one reason are one failure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import F

from checks.explain.instances import Written
from checks.models import Config, Instance
from checks.models.troubles import Trouble, put_handles_back, whole_error
from clusteragent.lib.words import natural
from nodes.models import RunnerStats

# The most failing configs that are looked at: those that have failed longest. And the most failures that are told.
MOST, MOST_TOLD = 5_000, 100
# Of so many configs of each failure the instances and teams are read, and the most characters of an error that are compared.
_READ, _COMPARED = 20, 500
_QUOTED = re.compile(r"""(?<!\w)(?:"[^"]*"|'[^']*')(?!\w)""")
_AROUND = "()[]{}<>,;:.!?="


@dataclass
class Failure:
    """Configs of one check whose last runs failed with the same words.

    pattern: the error with `*` for what differs. example: the error of the config that has failed longest. differs: whether
    others say something else where the pattern has `*`. nodes: {name: number of configs}. since: since when the first one fails.
    last_good: when one of them last succeeded; None if none says so. failing: {config's id: its check IDs that fail so}. which:
    {config's id: these in words}, of the first configs of several instances.
    """

    check: str
    pattern: str
    example: str
    since: datetime
    configs: list[Config] = field(default_factory=list)
    nodes: Counter[str] = field(default_factory=Counter)
    teams: Sequence[str] = ()
    last_good: datetime | None = None
    failing: dict[int, list[str]] = field(default_factory=dict)
    which: dict[int, str] = field(default_factory=dict)
    differs: bool = False

    def named(self, config: Config) -> str:
        """How one of its configs is called: of several instances with those that fail."""
        which = self.which.get(config.pk)
        return f"{which} of {config}" if which else str(config)


def pattern_of(error: str) -> str:
    """Return an error's words, with `*` for what differs from config to config: quoted words, names of hosts, addresses, and
    whatever has a digit.
    """
    return " ".join(map(_general, _QUOTED.sub("*", error[:_COMPARED]).split()))


def _general(word: str) -> str:
    core = word.strip(_AROUND)
    varies = "." in core or "://" in core or any(map(str.isdigit, core))
    return word.replace(core, "*", 1) if varies else word


class Failures(NamedTuple):
    """The first failures, how many there are, of how many configs, and whether more configs fail than were looked at."""

    told: list[Failure]
    number: int
    configs: int
    is_cut: bool


def read(most: int | None = None, most_told: int = MOST_TOLD) -> Failures:
    """Return the failures by the last stats, those of most configs first. most: of so many configs, else of MOST; most_told: so
    many failures.
    """
    most = MOST if most is None else most
    rows = Trouble.objects.current().filter(kind=Trouble.Kind.FAILING).order_by("since", "config_id")
    noted = {one.config_id: one for one in rows.only("config_id", "since", "last_good")[: most + 1]}
    found: dict[tuple[str, str], Failure] = {}
    configs = set()
    for config, node, stats in _failing(list(noted)[:most]):
        error = whole_error(stats.last_error) or "failed"
        key = config.name, pattern_of(error)
        trouble = noted[config.pk]
        failure = found.setdefault(key, Failure(*key, error, trouble.since))
        failure.differs |= error != failure.example
        configs.add(config.pk)
        # What fails comes config by config.
        if not failure.configs or failure.configs[-1].pk != config.pk:
            failure.configs.append(config)
            failure.nodes[node] += 1
        failure.failing.setdefault(config.pk, []).append(stats.check_id)
        failure.last_good = max(filter(None, (failure.last_good, stats.last_good, trouble.last_good)), default=None)
    ordered = sorted(found.values(), key=lambda one: (-len(one.configs), one.since, one.check, one.pattern))
    told = ordered[:most_told]
    for failure in told:
        failure.configs.sort(key=lambda config: natural(str(config)))
    _read_instances(told)
    return Failures(told, len(found), len(configs), len(noted) > most)


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
    told = {config.pk for one in stats for config in owned[one.check_id] if config.owner == one.node_id}
    # What moved since it failed, or has just recovered, fails until the next round of stats says otherwise, here as everywhere.
    stats += [
        RunnerStats(node_id=configs[one.config_id].owner, check_id=one.check_id, last_error=one.last_error, failed=True)
        for one in Trouble.objects.filter(kind=Trouble.Kind.FAILING, config__in=list(configs.keys() - told))
    ]
    put_handles_back(stats)
    place = {id_: number for number, id_ in enumerate(ids)}
    failed = [(config, one) for one in stats for config in owned[one.check_id] if config.owner == one.node_id]
    for config, one in sorted(failed, key=lambda row: (place[row[0].pk], row[1].pk)):
        yield config, config.node, one


def _read_instances(failures: Sequence[Failure]) -> None:
    """Set which instances of their first configs fail, and whose these are, by the tags `team:…` in the texts that people may
    see: a login may be called team.
    """
    written = Written.of({config.pk for failure in failures for config in failure.configs[:_READ]})
    for failure in failures:
        teams: set[str] = set()
        for config in failure.configs[:_READ]:
            check_ids = failure.failing[config.pk]
            failure.which[config.pk] = written[config.pk].which(check_ids)
            teams |= written[config.pk].teams(check_ids)
        failure.teams = sorted(teams)
