"""Runners: what they told of themselves and of their checks. A whole round of answers is written at once."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database.bulk import without_nested_loops
from nodes.models.events import NodeEvent
from nodes.models.heartbeats import Heartbeat
from nodes.models.nodes import Node


def capacity(weight: float, workers: int | None, share: float | None = None) -> float:
    """What a node's load is divided by, in workers: those that its runner told, within what counts, times its weight.

    share: what a slow node is given of it; None for all.
    """
    return (share or 1) * weight * min(workers or conf.DEFAULT_WORKERS, conf.RUNNER_MAX_WORKERS) or conf.DEFAULT_WORKERS


# The numbers that a runner tells of a check as it pleases, under the names of the wire and of our columns. Before 2026
# runners told no totals.
COUNTS = {
    "MetricSamples": "metric_samples", "HistogramBuckets": "histogram_buckets", "Events": "events",
    "ServiceChecks": "service_checks", "TotalRuns": "total_runs", "TotalErrors": "total_errors",
    "TotalMetricSamples": "total_metric_samples", "TotalEvents": "total_events",
    "TotalServiceChecks": "total_service_checks", "LastSuccessDate": "last_success",
}  # fmt: skip


# How an error begins that says that a node's API does not accept the token that we send.
REFUSES = "refuses our token"
# How an error begins of a node that is not asked, since it may be somebody else who answers there.
SHOWS_ANOTHER = "shows another certificate than the one that it began with"
# The error of a node that can't be asked, since the shared token is switched off and no other is for it.
UNSENT = "not asked: CLUSTERAGENT_RUNNER_TOKENS has no token for it"
# Runners are asked for stats each minute, so this is more than one round.
TWO_ROUNDS = timedelta(seconds=90)
# A node is overloaded once it was in so many rounds of stats in a row.
MANY_ROUNDS = 2


class CheckStats(NamedTuple):
    """What a runner tells of one check: the columns of RunnerStats after the node. None: it did not tell.

    That a check is told of means that it has run: runners tell of none before the end of its first run.
    """

    check_id: str
    execution_ms: float
    failed: bool = False
    last_error: str = ""
    last_execution: datetime | None = None
    metric_samples: int | None = None
    histogram_buckets: int | None = None
    events: int | None = None
    service_checks: int | None = None
    total_runs: int | None = None
    total_errors: int | None = None
    total_metric_samples: int | None = None
    total_events: int | None = None
    total_service_checks: int | None = None
    last_success: int | None = None


class Answer(NamedTuple):
    """What a node answered: the stats of its checks, or in one line why there are none. workers: None when unknown.

    clamped: what of it was so implausible that it does not count as it was told. address: where it was asked. began: when,
    by the monotonic clock. certificate: the fingerprint of the one that it showed; empty where nobody looks at it.
    """

    stats: Sequence[CheckStats] | None
    workers: int | None = None
    error: str = ""
    clamped: str = ""
    address: str | None = None
    began: float = 0.0
    certificate: str = ""


class RunnerQuerySet(models.QuerySet["Runner"]):
    # Not the ORM: its upsert can't add to what is there, and the database's own time is wanted. Rows in the order of the
    # key, so that two rounds at once wait for each other. KEY SHARE: a node that is pruned meanwhile would break all.
    _NOTE = """
        WITH node AS (
            SELECT id FROM nodes_node WHERE id = ANY(%(ids)s) ORDER BY id FOR KEY SHARE
        )
        INSERT INTO nodes_runner AS r (node_id, workers, stats_at, failures, failed_total, error, clamped, address,
            failing_since)
        SELECT node.id, t.workers, CASE WHEN t.error = '' THEN statement_timestamp() END,
            (t.error <> '')::int, (t.error <> '')::int, t.error, t.clamped, CASE WHEN t.error = '' THEN t.address END,
            CASE WHEN t.error <> '' THEN statement_timestamp() - t.age * interval '1 second' END
        FROM node
        JOIN unnest(%(ids)s::bigint[], %(workers)s::int[], %(errors)s::text[], %(clamped)s::text[],
            %(addresses)s::inet[], %(ages)s::float8[]) AS t (id, workers, error, clamped, address, age) USING (id)
        ORDER BY node.id
        ON CONFLICT (node_id) DO UPDATE SET
            workers = coalesce(excluded.workers, r.workers),
            stats_at = coalesce(excluded.stats_at, r.stats_at),
            failures = CASE WHEN excluded.error = '' THEN 0 ELSE r.failures + 1 END,
            failed_total = r.failed_total + excluded.failed_total,
            error = excluded.error,
            failing_since = CASE WHEN r.failures = 0 OR excluded.error = '' THEN excluded.failing_since ELSE r.failing_since END,
            address = CASE WHEN excluded.error = '' THEN excluded.address ELSE r.address END,
            clamped = CASE WHEN excluded.error = '' THEN excluded.clamped ELSE r.clamped END
        RETURNING node_id
    """

    @transaction.atomic
    def note(self, answers: Mapping[int, Answer]) -> dict[str, str]:
        """Store what these nodes answered. A node that failed keeps its stats and workers; a deleted one is left out.

        Returns the nodes whose answers became implausible: {node's name: what is}.
        """
        values: dict[str, Any] = {
            "ids": list(answers),
            "workers": [answer.workers for answer in answers.values()],
            "errors": [answer.error for answer in answers.values()],
            "clamped": [answer.clamped for answer in answers.values()],
            "addresses": [answer.address for answer in answers.values()],
            "ages": [time.monotonic() - answer.began for answer in answers.values()],
        }
        before = set(self.filter(pk__in=answers).exclude(clamped="").values_list("pk", flat=True))
        with connection.cursor() as cursor:
            cursor.execute(self._NOTE, values)
            noted = [node_id for (node_id,) in cursor.fetchall()]
        stats = {node_id: answers[node_id].stats for node_id in noted}
        RunnerStats.objects.replace({node_id: told for node_id, told in stats.items() if told is not None})
        # An event of each node, once for as long as it lasts.
        clamped = {pk: answers[pk].clamped for pk in noted if answers[pk].clamped and pk not in before}
        names = Node.objects.filter(pk__in=clamped).values_list("pk", "name")
        implausible = {name: clamped[pk] for pk, name in names}
        NodeEvent.objects.note_each(NodeEvent.Kind.CLAMPED, implausible)
        return implausible

    def telling(self) -> RunnerQuerySet:
        """Runners of known nodes that told stats when they were asked last."""
        return self.filter(node__heartbeat__isnull=False, failures=0, stats_at__isnull=False)

    def refusing(self) -> RunnerQuerySet:
        """Runners of known nodes that did not accept our token when they were asked last, or for which there is none."""
        refused = Q(error__startswith=REFUSES) | Q(error=UNSENT)
        return self.filter(refused, node__heartbeat__isnull=False, failures__gt=0)

    def showing_another(self) -> RunnerQuerySet:
        """Runners of known nodes that showed another certificate than the one that is kept, if certificates are pinned."""
        found = self.filter(node__heartbeat__isnull=False).exclude(other_certificate="")
        return found if conf.RUNNER_CERTIFICATES_PINNED else found.none()

    def unread(self) -> RunnerQuerySet:
        """Cluster check runners that report and whose stats could not be read in two rounds, for another reason than that they
        refuse our token or show another certificate.
        """
        reporting = Node.objects.runners().with_signal().filter(signal__in=("heard", "unsure"))
        # An older release noted no time: then the second failure counts.
        long = Q(failing_since__lt=ago(TWO_ROUNDS)) | Q(failing_since=None)
        unread = self.filter(long, node__in=reporting.values("pk"), failures__gt=1)
        return unread.exclude(pk__in=self.refusing()).exclude(pk__in=self.showing_another())

    # Not the ORM: bulk_update takes half a second for a thousand rows, and in the first round it is all of them.
    _SET_CERTIFICATES = """
        UPDATE nodes_runner AS r SET certificate = t.kept, other_certificate = t.other,
            certificate_since = CASE WHEN r.certificate = t.kept THEN r.certificate_since ELSE statement_timestamp() END
        FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS t (id, kept, other) WHERE r.node_id = t.id
    """

    def set_certificates(self, certificates: Mapping[int, tuple[str, str]]) -> None:
        """Set the certificates of runners, {node id: (that which is kept, another that it shows)}: fingerprints, or empty.

        The caller has locked their rows.
        """
        columns = zip(*((node_id, *of) for node_id, of in certificates.items()), strict=True)
        if certificates:
            with connection.cursor() as cursor:
                cursor.execute(self._SET_CERTIFICATES, [list(column) for column in columns])

    def clamped(self) -> RunnerQuerySet:
        """Runners of known nodes whose last answer was implausible."""
        return self.filter(node__heartbeat__isnull=False).exclude(clamped="")

    @transaction.atomic
    def note_overloaded(self, ids: Collection[int]) -> None:
        """Note that after this round of stats these nodes are overloaded, and no others of those that answered."""
        answered = self.filter(failures=0)
        more = answered.filter(pk__in=ids, overloaded_rounds__lt=MANY_ROUNDS)
        over = answered.exclude(pk__in=ids).filter(overloaded_rounds__gt=0)
        # In the order of the key, as `note` does: two rounds at once wait for each other.
        list((more | over).order_by("pk").select_for_update(no_key=True).values_list("pk"))
        more.update(overloaded_rounds=F("overloaded_rounds") + 1, overloaded_since=Coalesce("overloaded_since", Now()))
        over.update(overloaded_rounds=0, overloaded_since=None)

    def overloaded(self) -> RunnerQuerySet:
        """Runners of known nodes that were overloaded in two rounds of stats in a row."""
        return self.filter(node__heartbeat__isnull=False, overloaded_rounds__gte=MANY_ROUNDS)

    def capacity(self) -> dict[int, float]:
        """What the load of each known node is divided by, in workers: {node's id: capacity}."""
        of_node = ("node__weight", "node__runner__workers", "node__slowness__share")
        return {node_id: capacity(*of) for node_id, *of in Heartbeat.objects.values_list("node_id", *of_node)}


# Compared are checks that run on so many other nodes, and nodes with so many different ones at least; where their lengths are
# known, one is enough.
OTHER_NODES, KINDS = 2, 2
# Milliseconds. What is quicker elsewhere is not compared: runners tell whole milliseconds.
QUICK = 5.0


class RunTimes(NamedTuple):
    """How long a node's runs of a check take, compared with other nodes.

    kind: a number for the check's name. number: of its instances there. median: in ms. usual: the median of the other nodes'
    medians. others: how many other nodes run it. ranks: the sum of its instances' ranks among all instances of the check,
    everywhere; of equal ones the mean. total: of all these instances. compared: how many nodes are compared by this or other
    checks.
    """

    node_id: int
    kind: int
    number: int
    median: float
    usual: float
    others: int
    ranks: float
    total: int
    compared: int


class RunnerStatsQuerySet(models.QuerySet["RunnerStats"]):
    def replace(self, told: Mapping[int, Sequence[CheckStats]]) -> None:
        """Replace the stats of these nodes' checks: {node id: stats}. The caller has locked their Runner rows."""
        self.filter(node_id__in=list(told)).delete()
        columns = ", ".join(("node_id", *CheckStats._fields))
        # By COPY, since a round of many nodes has more rows than bulk_create writes in a second.
        statement = f"COPY nodes_runnerstats ({columns}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement) as stream:
            for node_id, stats in told.items():
                for one in stats:
                    stream.write_row((node_id, *one))

    # Not the ORM: medians of medians, and ranks among all instances. Only of nodes that answered the last time. Nearly all rows
    # stay in the database: those of thousands of nodes would take longer to fetch and compare than all else in a round. Checks
    # are told apart by hashes, which sort faster than names. Of a node that is or may be slow, run times count as those of usual
    # checks (see RunLength), and those whose length is not known do not; OFFSET 0, so that this is worked out once. `usual`
    # leaves the node's own median out: what follows in the order moves up from its place on.
    _RUN_TIMES = """
        WITH told AS MATERIALIZED (
            SELECT * FROM (
                SELECT s.node_id, hashtextextended(split_part(s.check_id, ':', 1), 0) AS kind, s.execution_ms / (
                    CASE WHEN s.node_id IN (SELECT node_id FROM nodes_runlength) THEN (
                        SELECT length FROM nodes_runlength AS l WHERE l.node_id = s.node_id AND l.check_id = s.check_id
                    ) ELSE 1 END
                ) AS ms
                FROM nodes_runnerstats AS s
                JOIN nodes_runner AS r ON r.node_id = s.node_id AND r.failures = 0
                JOIN nodes_heartbeat AS h ON h.node_id = s.node_id
                WHERE NOT s.check_id = ANY(%(without)s)
                OFFSET 0
            ) AS one WHERE ms IS NOT NULL
        ), here AS MATERIALIZED (
            SELECT node_id, kind, count(*) AS number, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS median
            FROM told GROUP BY node_id, kind
        ), everywhere AS MATERIALIZED (
            SELECT kind, nodes, total, nodes %% 2 = 0 AS is_even,
                medians[(nodes - 1) / 2] AS below, medians[(nodes + 1) / 2] AS mid, medians[(nodes + 3) / 2] AS above
            FROM (
                SELECT kind, count(*) AS nodes, sum(number) AS total, array_agg(median ORDER BY median) AS medians
                FROM here GROUP BY kind HAVING count(*) > %(others)s
            ) AS of_check
        ), compared AS MATERIALIZED (
            SELECT * FROM (
                SELECT h.*, e.nodes, e.total, (
                    CASE WHEN mid >= median THEN above ELSE mid END
                    + CASE WHEN is_even THEN CASE WHEN mid >= median THEN above ELSE mid END
                        WHEN below >= median THEN mid ELSE below END
                ) / 2 AS usual
                FROM here AS h JOIN everywhere AS e USING (kind)
            ) AS one WHERE usual >= %(quick)s
        ), wanted AS MATERIALIZED (
            SELECT node_id FROM compared GROUP BY node_id
            HAVING count(*) >= CASE WHEN node_id IN (SELECT node_id FROM nodes_runlength) THEN 1 ELSE %(kinds)s END AND (
                node_id = ANY(%(nodes)s)
                OR 2 * count(*) FILTER (WHERE median >= %(least)s * usual) > count(*)
                AND 2 * sum(number) FILTER (WHERE median >= %(least)s * usual) > sum(number)
            )
        ), place AS (
            SELECT kind, ms, sum(count(*)) OVER (PARTITION BY kind ORDER BY ms) - (count(*) - 1) / 2.0 AS rank
            FROM told WHERE EXISTS (SELECT FROM wanted) GROUP BY kind, ms
        ), ranked AS (
            SELECT t.node_id, t.kind, sum(p.rank)::float8 AS ranks
            FROM told AS t JOIN wanted USING (node_id) JOIN place AS p USING (kind, ms)
            GROUP BY t.node_id, t.kind
        )
        SELECT node_id, kind, number, median, usual, nodes - 1, ranks, total::int,
            (SELECT count(DISTINCT node_id) FROM compared)
        FROM compared JOIN ranked USING (node_id, kind)
    """

    def run_times(self, least: float = 0, nodes: Collection[int] = (), without: Collection[str] = ()) -> list[RunTimes]:
        """Compare the run times of the last round of stats, check by check, of nodes for which enough is comparable. Those of the
        check IDs in `without` are left out.

        Returns those of nodes whose checks take `least` times as long as elsewhere (by `nodes.slowness.compare`), and of `nodes`.
        """
        bounds = {"others": OTHER_NODES, "kinds": KINDS, "quick": QUICK, "least": least, "nodes": list(nodes)}
        bounds["without"] = list(without)
        with without_nested_loops() as cursor:
            cursor.execute(self._RUN_TIMES, bounds)
            return [RunTimes(*row) for row in cursor.fetchall()]


class Runner(models.Model):
    """What a node's stats API told last, and whether it still answers. Every node that was ever asked has one."""

    node = models.OneToOneField(Node, models.CASCADE, primary_key=True)
    # Unknown until it said; then the last number that it named, also while it does not answer.
    workers = models.PositiveIntegerField(null=True)
    stats_at = models.DateTimeField(null=True)
    # Calls that failed since the last one that did not, and since ever.
    failures = models.PositiveIntegerField(db_default=0)
    failed_total = models.BigIntegerField(db_default=0)
    # When the first of those calls was made; null also where an older release noted that it failed.
    failing_since = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, db_default="")
    # What it told last that can't be, and so does not count as it was told; empty when all can.
    clamped = models.CharField(max_length=200, db_default="")
    # Where it answered last.
    address = models.GenericIPAddressField(null=True)
    # Workers that it needs for checks that are not ours.
    own_load = models.FloatField(db_default=0.0)
    # Since when, and in how many rounds of stats in a row, its load is above its capacity. No more than MANY_ROUNDS are counted.
    overloaded_since = models.DateTimeField(null=True)
    overloaded_rounds = models.PositiveSmallIntegerField(db_default=0)
    # The SHA-256 of the first certificate that it showed since it started, or that was accepted, in hexadecimal digits, and since
    # when it is kept; empty and null where none is. And of another one that it showed last instead.
    certificate = models.CharField(max_length=64, db_default="")
    certificate_since = models.DateTimeField(null=True)
    other_certificate = models.CharField(max_length=64, db_default="")

    objects = RunnerQuerySet.as_manager()

    def __str__(self) -> str:
        return f"stats of {self.node_id}"


class RunnerStats(models.Model):
    """What a check did on a node, as its runner told when it last answered. null: the runner did not tell it."""

    node = models.ForeignKey(Node, models.CASCADE, related_name="runner_stats", db_index=False)
    check_id = models.TextField()
    # 0 of what takes less than a millisecond.
    execution_ms = models.FloatField()
    metric_samples = models.BigIntegerField(null=True)
    histogram_buckets = models.BigIntegerField(null=True)
    events = models.BigIntegerField(null=True)
    service_checks = models.BigIntegerField(null=True)
    total_runs = models.BigIntegerField(null=True)
    total_errors = models.BigIntegerField(null=True)
    total_metric_samples = models.BigIntegerField(null=True)
    total_events = models.BigIntegerField(null=True)
    total_service_checks = models.BigIntegerField(null=True)
    failed = models.BooleanField()
    # As the runner sent it, so it may hold a secret: to be scrubbed where it is shown.
    last_error = models.TextField()
    last_execution = models.DateTimeField(null=True)
    # Seconds since 1970; 0 while no run succeeded.
    last_success = models.BigIntegerField(null=True)

    objects = RunnerStatsQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "check_id"], name="runnerstats_node_check")]
        indexes = [models.Index(fields=["check_id"], name="runnerstats_check_id")]  # a config's page

    def __str__(self) -> str:
        return f"{self.check_id} on {self.node_id}"

    @property
    def last_good(self) -> datetime | None:
        """When it last succeeded; None where none is known, or where what the runner says is no time."""
        try:
            return datetime.fromtimestamp(self.last_success, UTC) if self.last_success else None
        except (OverflowError, ValueError, OSError):
            return None
