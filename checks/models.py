"""clusterStore: the configs, who runs them, and the ledger of every move."""

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models.functions import Now

import checks.edits
import checks.freezes
import checks.troubles  # noqa: F401 - their models are this app's
from checks.costquerysets import CostQuerySet
from checks.planquerysets import PlanQuerySet
from checks.querysets import (
    AssignmentQuerySet,
    ClusterStoreManager,
    ConfigQuerySet,
    MoveQuerySet,
    OriginManager,
    OriginQuerySet,
    SourceQuerySet,
    SourceScanQuerySet,
)
from clusteragent.lib import conf
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id, told_check_id
from nodes.models import Node


class ClusterStore(models.Model):
    """One row, and the lock of every change of the map. Its term fences passes of leaders that no longer lead."""

    term = models.BigIntegerField(db_default=0)
    leader = models.CharField(max_length=253, db_default="")
    revision = models.BigIntegerField(db_default=0)
    # Of the leader's secrets, {name: hash}: see clusteragent/fingerprints.py.
    fingerprints = models.JSONField(default=dict, db_default={})
    now: datetime  # the database's time, on a row that lock() returned

    objects = ClusterStoreManager()

    class Meta:
        constraints = [models.CheckConstraint(name="clusterstore_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"term {self.term}, revision {self.revision}"


class Config(models.Model):
    """A config that a source sent, patched, as the exact bytes that node agents get."""

    digest = models.CharField(max_length=16)
    name = models.CharField("check", max_length=253)
    provider = models.CharField(max_length=253, db_default="")
    original = models.JSONField()
    wire = models.BinaryField()
    scrubbed = models.BinaryField()
    text = models.TextField()
    node_name = models.CharField("endpoint of node", max_length=253, db_default="")
    # Who may not see the digest sees this: clusteragent/lib/shortids.py.
    short_id = models.CharField(max_length=16, db_default="")
    # How agents tell it from other configs, and a hash of what it says, whatever the order of its tags: checks/changes.py.
    fast_digest = models.CharField(max_length=16, db_default="")
    contents = models.CharField(max_length=32, db_default="")
    # patching.fingerprint(): what made the copies that people see, and of the options that made these bytes.
    patched_with = models.CharField(max_length=64, db_default="")
    created = models.DateTimeField(db_default=Now())
    changed = models.DateTimeField(db_default=Now())
    # Set exactly while the config should have an owner and has none. Endpoint configs have neither.
    dangling_since = models.DateTimeField(null=True)
    # Dangling for longer than the threshold, and said so in the log.
    unscheduled = models.BooleanField(db_default=False)
    # Who lost it when it became dangling: that node gets it back when it returns first.
    former_node = models.ForeignKey(Node, models.SET_NULL, null=True, related_name="+", db_index=False)

    objects = ConfigQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        permissions = [("view_digests", "Can see the digests and check IDs that node agents have")]
        constraints = [
            # Checked at commit: in one chunk of changes two configs may trade their bytes.
            models.UniqueConstraint(fields=["digest"], name="config_digest", deferrable=models.Deferrable.DEFERRED),
            models.CheckConstraint(
                name="endpoint_config_never_dangles",
                condition=models.Q(node_name="") | models.Q(dangling_since__isnull=True),
            ),
        ]
        indexes = [
            # dispatcher.redispatch(), the admin's filter.
            models.Index(
                fields=["dangling_since", "id"],
                name="config_dangling",
                condition=models.Q(dangling_since__isnull=False),
            ),
            # GET configs, of each node: whether something that it lost still dangles. Also asked for each node that is
            # forgotten, so its condition is no more than what is asked: that it is this node.
            models.Index(
                fields=["former_node"], name="config_of_former_node", condition=models.Q(former_node__isnull=False)
            ),
            # GET endpoints configs.
            models.Index(fields=["node_name"], name="config_of_endpoint", condition=~models.Q(node_name="")),
            models.Index(fields=["name", "id"], name="config_by_name"),  # the admin's list in its order
            models.Index(fields=["patched_with", "id"], name="config_by_patching"),  # repatching.repatch()
            models.Index(fields=["short_id"], name="config_by_short_id"),  # searches
            # What is sent, of each config: whether another says the same, or could be taken for it.
            models.Index(fields=["fast_digest"], name="config_by_fast_digest"),
            models.Index(fields=["contents"], name="config_by_contents"),
        ]

    def __str__(self) -> str:
        return f"{scrub(self.name)} {short_id(self.digest)}"


class Origin(models.Model):
    """Who sends a config and under which stable name. A config lives while at least one origin sends it."""

    source = models.CharField(max_length=253)
    key = models.TextField()
    # The key as people see and search it.
    shown = models.TextField(db_default="")
    config = models.ForeignKey(Config, models.CASCADE, related_name="origins")
    # Hash of what this origin sent last, before it was patched, so that sending the same again changes nothing.
    fingerprint = models.CharField(max_length=64)
    # The text as its author wrote it, where there is one; of a config in shards the first one's origin has it. With its
    # hash and that of what it was sent as: a release that knows of no texts changes only what is sent.
    written = models.TextField(db_default="")
    written_hash = models.CharField(max_length=32, db_default="")
    scanned_by = models.CharField(max_length=253, db_default="")
    scanned_at = models.DateTimeField(db_default=Now())

    objects = OriginManager.from_queryset(OriginQuerySet)()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="origin_source_key")]

    def __str__(self) -> str:
        return scrub(f"{self.source}:{self.shown or self.key}")


class Instance(models.Model):
    """A check ID and the config that it belongs to."""

    config = models.ForeignKey(Config, models.CASCADE, related_name="instances")
    check_id = models.TextField()
    # Of the check ID, what people see of it: the check, and the name without its secrets; and in place of its hash this.
    shown_name = models.TextField(db_default="")
    short_id = models.CharField(max_length=16, db_default="")
    # Seconds between two of its runs.
    interval = models.FloatField(db_default=15.0)

    class Meta:
        indexes = [
            models.Index(fields=["check_id"], name="instance_check_id"),  # looked up by runner stats and operators
            models.Index(fields=["short_id"], name="instance_by_short_id"),  # searches
        ]

    def __str__(self) -> str:
        return self.told()

    def told(self, *, exact: bool = False) -> str:
        """The check ID as people see it. exact: for those who may see its hash, which is then the agents'."""
        return told_check_id(self.check_id, self.shown_name, exact=exact)


class Cost(models.Model):
    """How many workers a config keeps busy, as last measured. It stays with the config, wherever it goes."""

    # No constraint: who removes configs then never waits for a round of measurements, which sweeps what they leave.
    config = models.OneToOneField(Config, models.DO_NOTHING, primary_key=True, db_constraint=False)
    workers_needed = models.FloatField()
    measured_at = models.DateTimeField(db_default=Now())

    objects = CostQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.workers_needed:g} workers for {self.config_id}"


class Assignment(models.Model):
    """Who runs a config: at most one node, since the config is the key."""

    config = models.OneToOneField(Config, models.CASCADE, primary_key=True)
    node = models.ForeignKey(Node, models.PROTECT, related_name="assignments")
    since = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=16)

    objects = AssignmentQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.config_id} on {self.node_id}"


class Move(models.Model):
    """The ledger: one line for every change of an owner, written in the transaction of the change. It outlives all it names."""

    class Reason(models.TextChoices):
        SCHEDULED = "scheduled"
        CHANGED = "changed"
        UNSCHEDULED = "unscheduled"
        EXPIRED = "expired"
        REDISPATCHED = "redispatched"
        OPERATOR = "operator"
        REBALANCED = "rebalanced"
        ISOLATED = "isolated"
        QUARANTINED = "quarantined"
        DRAINED = "drained"
        LEFT = "left"
        INELIGIBLE = "ineligible"
        PINNED = "pinned"
        PAUSED = "paused"
        RESUMED = "resumed"
        NOT_RUNNING = "not running"
        UNDONE = "undone"

    config_id = models.BigIntegerField()
    digest = models.CharField(max_length=16)
    name = models.CharField("check", max_length=253)
    source_node = models.CharField("from", max_length=253, db_default="")
    to_node = models.CharField("to", max_length=253, db_default="")
    reason = models.CharField(max_length=16, choices=Reason)
    actor = models.CharField(max_length=253, db_default="")
    term = models.BigIntegerField(db_default=0)
    time = models.DateTimeField(db_default=Now())
    # Of a choice among nodes: {"cost": …, "of": how many could have it, "best": [[node, load before], …]}.
    why = models.JSONField(null=True)

    objects = MoveQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["config_id", "-id"], name="move_of_config"),  # a config's page
            models.Index(fields=["time"], name="move_by_time"),  # prune(), ranges of time
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.source_node or '-'} → {self.to_node or '-'} ({self.reason})"


class MoveTotal(models.Model):
    """How many moves of a reason there ever were: a trigger of the ledger counts, and pruning takes nothing away.

    Under DECIDED, how many moves the rebalances that were applied were to make: a trigger of the plans counts.
    """

    DECIDED = "decided"

    reason = models.CharField(max_length=16, primary_key=True)
    number = models.BigIntegerField(db_default=0)

    def __str__(self) -> str:
        return f"{self.number} {self.reason}"


class TaskRun(models.Model):
    """The last run of a task that ended well, and how many seconds it took."""

    name = models.CharField(max_length=16, primary_key=True)
    ended_at = models.DateTimeField(db_default=Now())
    seconds = models.FloatField()

    def __str__(self) -> str:
        return f"{self.name} took {self.seconds:.1f} s"


class Plan(models.Model):
    """Moves worked out but not made yet. It goes stale when a config or node that it names changes."""

    author = models.CharField(max_length=253, blank=True)
    # What it is for: a Move.Reason, which its moves get.
    reason = models.CharField(max_length=16, choices=Move.Reason, default=Move.Reason.REBALANCED)
    revision = models.BigIntegerField()
    # [{"config": id, "digest": …, "name": …, "source": node's id, "to": node's id, "from_node": name, "to_node": name,
    #   "cost": workers, "gain": …}], the greatest gain first
    moves = models.JSONField(default=list)
    # What is ordered along with the moves: see Decision.order, with what stays. Empty for a rebalance.
    order = models.JSONField(default=dict, db_default={})
    # {node's name: {"before": utilization, "after": utilization}} of the nodes that the moves touch
    nodes = models.JSONField(default=dict)
    # {"peak": [before, after], "stddev": [before, after]}
    spread = models.JSONField(default=dict)
    time = models.DateTimeField(db_default=Now())
    applied_at = models.DateTimeField(null=True)
    # How many of the moves were made, and why not all.
    moved = models.PositiveIntegerField(db_default=0)
    outcome = models.TextField(db_default="")

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        number = len(self.moves)
        return f"{number} move{'' if number == 1 else 's'}, {self.reason}"


class Source(models.Model):
    """Where configs come from, what its last scan found wrong, and what it holds back."""

    name = models.CharField(max_length=253, unique=True)
    # The last scan that could read the source; empty until the first.
    read_at = models.DateTimeField(null=True)
    scanned_at = models.DateTimeField(null=True)
    scanned_by = models.CharField(max_length=253, db_default="")
    # [{"where": "postgres.d/conf.yaml", "line": 3, "error": "…"}]
    errors = models.JSONField(default=list)
    # [{"where": "http_check.d/conf.yaml", "line": 3, "warning": "…"}]: what is sent, but probably not as it was meant.
    warnings = models.JSONField(default=list, db_default=[])
    # What is shown but never dispatched: [{"where": …, "why": "a template: it has ad_identifiers and no node_name"}]
    passed_over = models.JSONField(default=list)
    # Keys of origins whose removal waits for someone to accept it, or for the files to be back.
    held_removals = models.JSONField(default=list)

    objects = SourceQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def note_scan(self, *, read: bool, **findings: list[Any]) -> None:
        """Write down what a scan by this replica found. read: the source could be read."""
        changed = {name: value for name, value in findings.items() if getattr(self, name) != value}
        # Lists that stay the same are not written again each time: they may be long.
        stamps = {"scanned_at": Now(), "scanned_by": conf.REPLICA} | ({"read_at": Now()} if read else {})
        Source.objects.filter(pk=self.pk).update(**stamps, **changed)


class SourceScan(models.Model):
    """When a replica last scanned a source: what it alone sent is removed by others only some time after."""

    source = models.ForeignKey(Source, models.CASCADE)
    replica = models.CharField(max_length=253)
    scanned_at = models.DateTimeField(db_default=Now())

    objects = SourceScanQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "replica"], name="sourcescan_source_replica")]

    def __str__(self) -> str:
        return f"{self.source_id} by {self.replica}"
