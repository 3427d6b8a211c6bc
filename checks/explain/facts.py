"""Three facts of a config: assigned by the server, acknowledged by its node, running by its runner's stats; each with an age."""

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q

from checks.models import Config, Handover, Instance
from checks.models.handovers import Promise
from checks.models.troubles import Trouble, put_handles_back, whole_error
from clusteragent.lib import clock, conf
from clusteragent.lib.words import plain_count
from nodes.models import Node, RunnerStats

# Stats are read at least each minute. After this long they say nothing of what runs now.
STATS_COUNT = timedelta(minutes=5)

_EPOCH = datetime.fromtimestamp(0, UTC)


class Truth(enum.StrEnum):
    """Whether a fact holds."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Fact:
    """One fact of a config. details: for people. age: how long it has held, or the age of the report that says so.

    aged: what the age is of; empty: the fact itself.
    """

    name: str
    truth: Truth
    details: str
    aged: str = ""
    age: timedelta | None = None

    @property
    def text(self) -> str:
        """The details, ending with what the age is of."""
        return f"{self.details}, {self.aged}" if self.aged else self.details


@dataclass(frozen=True)
class Run:
    """One instance of a config, with its runner's last stats; None when there are none.

    before: the error with which it failed on its former node, as long as the present one has not told of it.
    """

    instance: Instance
    stats: RunnerStats | None
    before: str = ""

    @property
    def share(self) -> float:
        """The execution time of a run as a fraction of its interval; 0 without stats."""
        return 0.0 if self.stats is None else self.stats.execution_ms / 1000 / self.instance.interval

    @property
    def error(self) -> str:
        """The error of the last run, scrubbed, on one line; empty when it did not fail."""
        if self.stats is None and self.before:
            return f"{whole_error(self.before)} (on its former node)"
        return whole_error(self.stats.last_error) or "failed" if self.stats is not None and self.stats.failed else ""


@dataclass(frozen=True)
class Facts:
    """What is known of a config now.

    runs: one for each instance. node: the name of the node that has it; empty if none has. labels: that node's. tells_stats:
    whether it ever did. is_heard: whether it was heard within the timeout: a brake or a pass that is late may keep what it has.
    """

    assigned: Fact
    acknowledged: Fact
    running: Fact
    runs: Sequence[Run]
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tells_stats: bool = False
    is_heard: bool = True

    @property
    def three(self) -> tuple[Fact, Fact, Fact]:
        """The facts in the order in which they come true."""
        return self.assigned, self.acknowledged, self.running

    @property
    def error(self) -> str:
        """The error of the first instance whose last run failed, named if there are several; empty when none failed."""
        first = next((run for run in self.runs if run.error), None)
        if first is None:
            return ""
        name = first.instance.name if len(self.runs) > 1 else ""
        return f"{name}: {first.error}" if name else first.error

    @property
    def noted_error(self) -> str:
        """The same, or with what it failed by the last round of stats, which counts as failing until the next one."""
        before = next((run.before for run in self.runs if run.before), "")
        return self.error or whole_error(before)

    @property
    def failing(self) -> list[str]:
        """The check IDs of the instances whose last run failed."""
        return [run.instance.check_id for run in self.runs if run.error]

    @property
    def slowest(self) -> Run | None:
        """The instance whose run takes the greatest fraction of its interval; None without stats."""
        return max((run for run in self.runs if run.stats), key=lambda run: run.share, default=None)


def of(config: Config) -> Facts:
    """Return the facts of a config."""
    return of_many([config])[config.pk]


def of_many(configs: Collection[Config]) -> dict[int, Facts]:
    """Return the facts of configs, {id: facts}.

    The number of queries does not depend on that of the configs if they come with `assignment` and `pause`.
    """
    now, ids = clock.now(), [config.pk for config in configs]
    nodes = _nodes(configs)
    stats = _stats(ids, configs, nodes.values())
    handovers = {one.pk: one for one in Handover.objects.filter(pk__in=ids).select_related("source", "between")}
    instances: dict[int, list[Instance]] = defaultdict(list)
    for instance in Instance.objects.filter(config__in=ids).order_by("pk"):
        instances[instance.config_id].append(instance)
    before = _before(ids)
    found = {}
    for config in configs:
        node = nodes.get(_owner(config))
        told = stats[node.pk] if node else {}
        runs = [
            Run(one, told.get(one.check_id), before.get((config.pk, one.check_id), "")) for one in instances[config.pk]
        ]
        found[config.pk] = _facts(config, node, told, runs, now, handovers.get(config.pk))
    return found


def _before(ids: Collection[int]) -> dict[tuple[int, str], str]:
    """With what errors these configs last failed: {(config, check ID): error}."""
    failing = list(Trouble.objects.filter(kind=Trouble.Kind.FAILING, config__in=ids))
    put_handles_back(failing)
    return {(one.config_id, one.check_id): one.last_error or "failed" for one in failing}


def _owner(config: Config) -> int | str:
    """The id of the node that has a config; of an endpoint check, which has no assignment, the name."""
    return config.assignment.node_id if hasattr(config, "assignment") else config.node_name


def _nodes(configs: Iterable[Config]) -> dict[int | str, Any]:
    """The nodes that have these configs, by id and by name."""
    owners = {_owner(config) for config in configs}
    names = [owner for owner in owners if isinstance(owner, str)]
    wanted = Q(pk__in=[owner for owner in owners if isinstance(owner, int)]) | Q(name__in=names)
    nodes: Any = Node.objects.with_state().select_related("heartbeat", "runner").filter(wanted)
    return {key: node for node in nodes for key in (node.pk, node.name)}


def _stats(ids: Collection[int], configs: Iterable[Config], nodes: Iterable[Node]) -> dict[int, dict[str, RunnerStats]]:
    """What these nodes told of these configs: {node's id: {check ID: stats}}."""
    # Runners report some checks under their bare name.
    mine = Q(check_id__in=Instance.objects.filter(config__in=ids).values("check_id"))
    mine |= Q(check_id__in=list({config.name for config in configs}))
    found: dict[int, dict[str, RunnerStats]] = defaultdict(dict)
    stats = list(RunnerStats.objects.filter(mine, node__in=list({node.pk for node in nodes})))
    put_handles_back(stats)
    for one in stats:
        found[one.node_id][one.check_id] = one
    return found


def _facts(
    config: Config,
    node: Any,
    stats: Mapping[str, RunnerStats],
    runs: Sequence[Run],
    now: datetime,
    handover: Handover | None,
) -> Facts:
    """The facts of a config. node: the one that has it. stats: what that told of its checks."""
    assignment = getattr(config, "assignment", None)
    if config.node_name:
        assigned = Fact("Assigned", Truth.YES, f"to {config.node_name}, whose endpoint it checks")
    elif assignment and node:
        details = f"to {node.name} ({assignment.reason})"
        aged = ""
        if handover:
            details, aged = f"{details}; {handed_over(handover, node.name)}", "given"
        assigned = Fact("Assigned", Truth.YES, details, aged, now - assignment.since)
    else:
        assigned = Fact("Assigned", Truth.NO, "it is paused" if hasattr(config, "pause") else "it dangles")
    if node is None:
        acknowledged, running = (Fact(name, Truth.NO, "no node has it") for name in ("Acknowledged", "Running"))
        return Facts(assigned, acknowledged, running, runs, config.node_name)
    acknowledged = Fact("Acknowledged", Truth.UNKNOWN, "node agents don't say which endpoint checks they fetched")
    since = config.changed
    if assignment:
        since = max(assignment.since, since)
        acknowledged = _acknowledged(node, since, now)
        if handover and handover.promise == Promise.STRICT:
            details = f"{handover.source} has not said yet that it stopped it"
            acknowledged = Fact("Acknowledged", Truth.NO, details, "asked", now - since)
    running = _running(config, node, stats, runs, since, now)
    if handover and (handover.promise == Promise.STRICT or acknowledged.truth is not Truth.YES):
        running = _running_before(handover, node.name, running)
    runner = getattr(node, "runner", None)
    tells_stats = bool(runner and runner.stats_at)
    is_heard = node.state != "lost" and node.silence <= conf.NODE_EXPIRATION_TIMEOUT
    return Facts(assigned, acknowledged, running, runs, node.name, node.labels, tells_stats, is_heard)


def _running_before(handover: Handover, owner: str, running: Fact) -> Fact:
    """Whether a config runs that is handed over, of which the new owner's stats can't tell. running: what these tell."""
    if handover.promise == Promise.STRICT:
        details = f"{handover.source} runs it until it fetches that it is to stop it, and {owner} has not got it yet"
        return Fact("Running", Truth.UNKNOWN, details)
    return running if running.truth is Truth.YES else Fact("Running", Truth.YES, _until(handover, owner))


def handed_over(handover: Handover, owner: str) -> str:
    """Return what a hand-over to a node waits for, as a part of a sentence."""
    if handover.promise == Promise.STRICT:
        return f"{owner} gets it when {handover.source} has stopped it"
    return _until(handover, owner)


def _until(handover: Handover, owner: str) -> str:
    former = f"{handover.source} or {handover.between}" if handover.between else f"{handover.source}"
    return f"{former} runs it until {owner} does"


def version(time: datetime) -> int:
    """Return the config version of a time: nanoseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def _acknowledged(node: Any, since: datetime, now: datetime) -> Fact:
    if node.state == "lost":
        return Fact("Acknowledged", Truth.UNKNOWN, f"{node.name} is lost")
    # As checks.models.map.fetched() says it in SQL.
    if min(version(since), node.config_version) <= node.heartbeat.acknowledged <= node.config_version:
        return Fact("Acknowledged", Truth.YES, f"{node.name} fetched this version", "heard", node.silence)
    return Fact("Acknowledged", Truth.NO, f"{node.name} has not fetched this version yet", "made", now - since)


def _running(
    config: Config, node: Any, stats: Mapping[str, RunnerStats], runs: Sequence[Run], since: datetime, now: datetime
) -> Fact:
    runner = getattr(node, "runner", None)
    if runner is None or runner.stats_at is None:
        return Fact("Running", Truth.UNKNOWN, f"no stats from {node.name}")
    age = now - runner.stats_at
    if age > STATS_COUNT:
        return Fact("Running", Truth.UNKNOWN, f"no stats from {node.name} any more", "the last came", age)
    if runner.stats_at < since:
        # The stats may be of an earlier assignment to this node.
        return Fact("Running", Truth.UNKNOWN, f"{node.name} sent no stats since then", "the last came", age)
    running = sum(run.stats is not None for run in runs)
    if config.name in stats or (runs and running == len(runs)):
        return Fact("Running", Truth.YES, f"in the stats of {node.name}", "read", age)
    some = f"only {running} of {plain_count(len(runs), 'check ID')}" if running else "not"
    return Fact("Running", Truth.NO, f"{some} in the stats of {node.name}", "read", age)
