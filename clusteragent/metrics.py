"""The metrics: the Datadog Cluster Agent's under its names, ours as `clusteragent_…`, all computed from the database.

So every replica has the same values, whoever leads. Prometheus' text format is written here: prometheus-client takes seconds
for 100 000 series, and it can't write a counter whose name doesn't end in `_total`, as the peer's don't.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db.models import Count, Sum, TextField, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from checks.dispatcher import costs
from checks.explain import alerts, drains, headroom
from checks.models import Assignment, ClusterStore, Config, Cost, Handover, Instance, Move, MoveTotal, Source, TaskRun
from checks.models.configs import displayable
from checks.models.handovers import Promise
from clusteragent.lib import certificates, conf, database
from clusteragent.lib.files import CredentialsError
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.version import VERSION
from clusteragent.models import Announcement
from nodes.models import Hearing, Node, Runner, RunnerStats, Slowness
from nodes.views import AgentView
from operators import fingerprints
from operators.api import permissions
from operators.api.authentication import OperatorToken

# Nodes with series of their own, the first by name. The others are summed up under OTHERS, which can't be a node's name.
MOST_NODES = 2000
OTHERS = "/others"
# The share of its workers that a node should keep busy.
TARGET_UTILIZATION = 0.8
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds that a scrape may take. Prometheus gives up after ten by default.
SCRAPE_LIMIT = 9

Samples = Iterable[tuple[tuple[str, ...], float]]


class Family(NamedTuple):
    """A metric with all its series. samples: (values of the labels, value). kind: gauge or counter."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: Samples

    def lines(self) -> Iterator[str]:
        """Yield the metric in Prometheus' text format. Every series has join_leader, a label that the peer's dashboards use."""
        yield f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n"
        form = "".join(f',{label}="%s"' for label in self.labels)
        form = f'{self.name}{{join_leader="true"{form}}} %s\n'
        for values, number in self.samples:
            yield form % (*map(_escaped, values), "+Inf" if number == math.inf else number)


def _escaped(value: str) -> str:
    # str.translate() takes three times as long.
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def exposition(*, exact: bool = True) -> bytes:
    """Return all metrics in Prometheus' text format. exact: with node agents' check IDs instead of short IDs."""
    return "".join(line for family in families(exact=exact) for line in family.lines()).encode()


def families(*, exact: bool = True) -> Iterator[Family]:
    """Yield every metric with its current values."""
    nodes = _Nodes()
    yield from _of_leadership()
    yield from _of_nodes(nodes)
    yield from _of_configs(nodes)
    yield from _of_load(nodes)
    yield from _of_headroom()
    yield from _of_drains()
    yield from _of_moves()
    yield from _of_tasks()
    yield from _of_alerts()
    yield from _of_the_certificate()
    yield from _of_sources()
    if conf.METRICS_CONFIGS_INFO:
        yield _configs_info(nodes, exact)


class _Nodes:
    """The known nodes: names is {node id: name}, labels is {node id: value of the label node}."""

    def __init__(self) -> None:
        self.names = dict(Node.objects.known().order_by("name").values_list("pk", "name"))
        self.labels = {
            pk: name if number < MOST_NODES else OTHERS for number, (pk, name) in enumerate(self.names.items())
        }
        self.unnamed = max(0, len(self.labels) - MOST_NODES)

    def series(self, values: Mapping[int, float], fold: Callable[[Collection[float]], float] = sum) -> Samples:
        """Return a series for each node, 0 where {node id: value} has none; the nodes under OTHERS are folded into one."""
        found: dict[str, list[float]] = {}
        for pk, label in self.labels.items():
            found.setdefault(label, []).append(values.get(pk, 0))
        return [((label,), fold(of_label)) for label, of_label in found.items()]


def _gauge(name: str, text: str, value: float | Samples, *labels: str) -> Family:
    return Family(name, "gauge", text, labels, [((), value)] if isinstance(value, int | float) else value)


def _counter(name: str, text: str, value: float | Samples, *labels: str) -> Family:
    return _gauge(name, text, value, *labels)._replace(kind="counter")


def _of_leadership() -> Iterator[Family]:
    yield _gauge(
        "clusteragent_build_info",
        "Always 1: the version of the replica that was scraped.",
        [((VERSION,), 1)],
        "version",
    )
    store, hearing = ClusterStore.objects.get(), _hearing()
    leads = store.leader.rpartition(":")[0] == conf.REPLICA
    text = "Always 1: is_leader says whether the replica that was scraped leads."
    yield _gauge("leader_election_is_leader", text, [((str(leads).lower(),), 1)], "is_leader")
    yield _gauge("clusteragent_leader_term", "The leader's term: a new leader has a new number.", store.term)
    age = (hearing.now - hearing.last_pass).total_seconds() if hearing.last_pass else math.inf
    yield _gauge("clusteragent_last_pass_age_seconds", "Seconds since the last background pass ended.", age)
    text = "1 while no node expires, because too many are silent at once."
    # Adopted nodes are silent until they know our address: nothing is wrong, and nobody should be called.
    is_braked = hearing.braked_since is not None and not Node.objects.none_reported()
    yield _gauge("clusteragent_brake", text, int(is_braked))
    text = "1 while silence of nodes does not count, after a time in which heartbeats could not be received."
    yield _gauge("clusteragent_deaf", text, int(Hearing.objects.deaf_lately().exists()))
    text = "1 during the warm-up of a new database, in which no config is placed."
    yield _gauge("clusteragent_warmup", text, int(hearing.warmup))


def _hearing() -> Any:
    return Hearing.objects.annotate(now=Now()).get()


def _of_nodes(nodes: _Nodes) -> Iterator[Family]:
    yield _gauge("cluster_checks_nodes_reporting", "Nodes that are not lost.", len(nodes.labels))
    stated: Any = Node.objects.with_state()
    states = dict(stated.order_by().values_list("state").annotate(Count("pk")))
    text = "Nodes by state. Lost nodes are deleted after a while."
    by_state = [((state,), states.get(state, 0)) for state in ("alive", "silent", "lost")]
    yield _gauge("clusteragent_nodes", text, by_state, "state")
    cordoned = Node.objects.known().filter(schedulable=False).count()
    yield _gauge("clusteragent_nodes_cordoned", "Nodes that get no new configs.", cordoned)
    text = f'Nodes whose series are summed up under node="{OTHERS}"; for loads it has the highest.'
    yield _gauge("clusteragent_nodes_summed_up", text, nodes.unnamed)
    slow = list(Slowness.objects.slow().values_list("node_id", "level", "factor"))
    levels = Counter(level for _, level, _ in slow)
    by_level = [(("slow",), levels[Slowness.SLOW]), (("very slow",), levels[Slowness.VERY])]
    yield _gauge(
        "clusteragent_nodes_slow",
        "Nodes whose checks take longer than elsewhere, or that miss polls.",
        by_level,
        "state",
    )
    text = "How many times as long the checks of a slow node take as elsewhere."
    # The highest of those that are summed up.
    factors: dict[str, float] = {}
    for pk, _, factor in slow:
        if factor is not None:
            label = nodes.labels.get(pk, OTHERS)
            factors[label] = max(factor, factors.get(label, 0.0))
    yield _gauge("clusteragent_node_slowness", text, [((label,), factor) for label, factor in factors.items()], "node")
    failed = dict(Runner.objects.values_list("node_id", "failed_total"))
    text = "Heartbeats with new names of nodes that were refused, because there were too many."
    yield _counter("clusteragent_new_nodes_refused_total", text, _hearing().names_refused)
    text = "Calls of a runner's stats API that failed."
    yield _counter("cluster_checks_failed_stats_collection", text, nodes.series(failed), "node")


def _of_configs(nodes: _Nodes) -> Iterator[Family]:
    dangling = Config.objects.dangling()
    yield _gauge("cluster_checks_configs_dangling", "Configs that no node has.", dangling.count())
    dispatched = dict(Assignment.objects.order_by().values_list("node_id").annotate(Count("pk")))
    yield _gauge("cluster_checks_configs_dispatched", "Configs of a node.", nodes.series(dispatched), "node")
    of_names = dict(Config.objects.exclude(node_name="").order_by().values_list("node_name").annotate(Count("pk")))
    endpoints = {pk: of_names.get(name, 0) for pk, name in nodes.names.items()}
    yield _gauge("endpoint_checks_configs_dispatched", "Endpoint configs of a node.", nodes.series(endpoints), "node")
    text = f"Configs that no node has had for longer than {conf.UNSCHEDULED_CHECK_THRESHOLD.total_seconds():g} s."
    late = dangling.filter(unscheduled=True)
    named: Any = late.annotate(source=Coalesce(KT("original__source"), Value(""), output_field=TextField()))
    groups = named.order_by("name", "source").values_list("name", "source")
    counts: Counter[tuple[str, ...]] = Counter()
    for name, source, number in groups.annotate(Count("pk"))[:MOST_NODES]:
        # A source may be an address with a password, and two may differ in nothing else.
        counts[scrub(name), scrub(source)] += number
    # The rest is summed up; `+` leaves it out where there is none.
    counts[OTHERS, ""] += late.count() - counts.total()
    yield _gauge("cluster_checks_unscheduled_check", text, (+counts).items(), "config_name", "config_source")


def _of_load(nodes: _Nodes) -> Iterator[Family]:
    needed, capacity = Cost.objects.by_node(), Runner.objects.capacity()
    load = costs.loads(needed, capacity)
    text = (
        "Expected load of a node: the workers that its configs need, divided by those it has and by its weight. What was not"
        " measured yet counts as assumed."
    )
    yield _gauge("clusteragent_expected_load", text, nodes.series(load, max), "node")
    yield _gauge("cluster_checks_predicted_utilization", text, nodes.series(load, max), "node")
    busy = dict(RunnerStats.objects.order_by().values_list("node_id").annotate(Sum("execution_ms")))
    text = "Run time of all checks of a node, one run of each, in ms."
    yield _gauge("cluster_checks_busyness", text, nodes.series(busy, max), "node")
    wanted: Samples = []
    if Cost.objects.exists():
        total = sum(needed.values()) + Cost.objects.means().usual * Config.objects.dangling().count()
        each = sum(capacity.values()) / len(capacity) if capacity else conf.DEFAULT_WORKERS
        # Rounded: a rounding error of the sum must not ask for one more node.
        wanted = [((), math.ceil(round(total / (TARGET_UTILIZATION * each), 6)))]
    text = f"Nodes that the load needs if each is {TARGET_UTILIZATION:.0%} busy; absent before costs are measured."
    yield _gauge("clusteragent_wanted_nodes", text, wanted)


def _of_headroom() -> Iterator[Family]:
    named = [(one.domain or one.node, one) for one in headroom.noted()[:MOST_NODES]]
    text = "Mean load of the other nodes if this domain, or node, were lost; absent before costs are measured."
    reach = [((lost,), one.reach) for lost, one in named if one.reach is not None]
    yield _gauge("clusteragent_headroom_load", text, reach, "lost")
    text = "Configs of this domain, or node, that no other node may have or has room for."
    yield _gauge("clusteragent_headroom_homeless", text, [((lost,), one.homeless) for lost, one in named], "lost")


def _of_drains() -> Iterator[Family]:
    left = list(drains.under_way())
    states = Counter(one.state for one in left)
    text = (
        "Nodes that are being drained: with something left, with something left after the deadline, with nothing left."
    )
    by_state = [((state,), states[state]) for state in ("under way", "late", "done")]
    yield _gauge("clusteragent_drains", text, by_state, "state")
    text = "Configs left on a node that is being drained, those that are being handed over included."
    series = [((one.name,), one.configs) for one in left[:MOST_NODES]]
    if rest := left[MOST_NODES:]:
        series.append(((OTHERS,), sum(one.configs for one in rest)))
    yield _gauge("clusteragent_drain_configs_left", text, series, "node")


def _of_moves() -> Iterator[Family]:
    under_way = dict.fromkeys(Promise.values[:2], 0)
    under_way |= dict(Handover.objects.order_by().values_list("promise").annotate(Count("pk")))
    text = "Configs that are being handed over to another node, by what is promised of them."
    yield _gauge("clusteragent_handovers", text, [((one,), number) for one, number in under_way.items()], "promise")
    totals = dict.fromkeys(Move.Reason.values, 0) | dict(MoveTotal.objects.values_list("reason", "number"))
    decided = totals.pop(MoveTotal.DECIDED, 0)
    yield _counter("cluster_checks_rebalancing_decisions", "Moves that were decided, to balance the load.", decided)
    text = "Moves that were made, to balance the load."
    yield _counter("cluster_checks_successful_rebalancing_moves", text, totals[Move.Reason.REBALANCED])
    text = "Moves away from nodes that may not run the config any more."
    yield _counter("cluster_checks_compat_repair_moves", text, totals[Move.Reason.INELIGIBLE])
    text, moves = "Changes of a config's node, by reason.", [((reason,), number) for reason, number in totals.items()]
    yield _counter("clusteragent_moves_total", text, moves, "reason")


def _of_tasks() -> Iterator[Family]:
    runs: list[Any] = list(TaskRun.objects.annotate(now=Now()).order_by("name"))
    seconds = {run.name: run.seconds for run in runs}
    for task, name in (("stats", "updating_stats"), ("rebalance", "rebalancing")):
        took: Samples = [((), seconds[task])] if task in seconds else []
        text = f"Seconds that the last run of the task {task} took."
        yield _gauge(f"cluster_checks_{name}_duration_seconds", text, took)
    text = "Seconds that the last run of a task took."
    yield _gauge("clusteragent_task_duration_seconds", text, [((run.name,), run.seconds) for run in runs], "task")
    ages = [((run.name,), (run.now - run.ended_at).total_seconds()) for run in runs]
    yield _gauge("clusteragent_task_age_seconds", "Seconds since a task last ended without an error.", ages, "task")


def _of_alerts() -> Iterator[Family]:
    counts = dict.fromkeys(map(str, alerts.Kind), 0)
    for alert in alerts.current(fingerprints.differing()):
        counts[alert.kind] += alert.count
    text = "What needs somebody, as on the admin's first page."
    yield _gauge("clusteragent_needs_you", text, [((kind,), number) for kind, number in counts.items()], "kind")
    text = "Attempts to send the pending message of the webhook; 0 when there is none."
    attempts = Announcement.objects.values_list("attempts", flat=True).first() or 0
    yield _gauge("clusteragent_webhook_attempts", text, attempts)


def _of_the_certificate() -> Iterator[Family]:
    """Of the replica that was scraped. Nothing of files that can't be used: that is an alert."""
    left: Samples = []
    with suppress(CredentialsError):
        if pair := certificates.served():
            ends = certificates.read(pair).certificate.not_valid_after_utc
            left = [((), (ends - datetime.now(UTC)).total_seconds())]
    text = "Seconds until the certificate of the replica that was scraped ends; less than 0 after that."
    yield _gauge("clusteragent_certificate_ends_seconds", text, left)


def _of_sources() -> Iterator[Family]:
    sources: Any = list(Source.objects.with_counts().order_by("name"))
    text = "Files of a source, or the source itself, that can't be read or dispatched."
    yield _gauge("clusteragent_source_errors", text, [((one.name,), one.errors_number) for one in sources], "source")
    text = "Files or configs of a source that are probably not as their author meant them."
    odd = [((one.name,), one.warnings_number) for one in sources]
    yield _gauge("clusteragent_source_warnings", text, odd, "source")
    text = "Seconds since a source that the leader watches was last read."
    unread = [((one.name,), one.read_age.total_seconds()) for one in sources if one.state and one.read_age is not None]
    yield _gauge("clusteragent_source_unread_seconds", text, unread, "source")
    text = "Removals that a source holds back until someone accepts them."
    held = [((one.name,), one.held_removals_number) for one in sources]
    yield _gauge("clusteragent_source_held_removals", text, held, "source")


def _configs_info(nodes: _Nodes, exact: bool) -> Family:
    """Names in check IDs are the stored scrubbed copies: scrubbing 100 000 names would take longer than all the rest."""
    fields = ("config__assignment__node_id", "config__name", "check_id", "short_id", "shown_name")
    rows = Instance.objects.filter(config__assignment__isnull=False)
    instances = rows.annotate(fit=displayable("config__")).values_list(*fields, "fit")
    text = "Always 1: which node has which check."
    samples = (
        (
            (
                nodes.labels.get(pk, OTHERS),
                shown.partition(":")[0] if fit else scrub(name),
                f"{shown if fit else scrub(name)}:{check_id.rpartition(':')[2] if exact else short or short_id(check_id)}",
            ),
            1,
        )
        for pk, name, check_id, short, shown, fit in instances
    )
    return _gauge("cluster_checks_configs_info", text, samples, "node", "check_name", "check_id")


class Scrape(AgentView):
    """GET /metrics: for bearers of an operator's token that may see the cluster; with METRICS_PUBLIC for everybody.

    Only bearers of a token get node agents' check IDs; others get short IDs.
    """

    http_method_names = ["get", "head"]
    token = None  # node agents have none of those that open it
    challenge = "Bearer"
    permission = permissions.requires("checks.view_clusterstore")()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer within SCRAPE_LIMIT seconds."""
        with database.limited(SCRAPE_LIMIT):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: HttpRequest) -> None:
        """Raise PermissionDenied or NotAuthenticated unless the caller may read the metrics; set `exact`."""
        self.exact = not conf.METRICS_PUBLIC or "Authorization" in request.headers
        if self.exact:
            caller = Request(request, authenticators=[OperatorToken()])
            database.ask(lambda: self.permission.has_permission(caller, self))

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer with all metrics, or with 503 when the database does not answer."""
        return HttpResponse(database.ask(lambda: exposition(exact=self.exact)), content_type=CONTENT_TYPE)

    head = get
