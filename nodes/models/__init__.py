"""nodeStore: the node agents that report to us, when they were last heard, and what happened to them."""

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id
from nodes.models.events import NodeEventQuerySet
from nodes.models.hearing import HearingManager, Silence
from nodes.models.heartbeats import HeartbeatQuerySet
from nodes.models.querysets import NodeQuerySet, NodeRuleQuerySet
from nodes.models.runnerstats import RunnerQuerySet, RunnerStatsQuerySet
from nodes.names import likeness, validate_node_name

# For so many timeouts in a row late passes, and ends of brakes, give every node a full timeout anew.
LATE_COUNTS = 2


def validate_network(network: str) -> None:
    """An address range, as 10.1.0.0/16 or fd00::/8."""
    try:
        ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise ValidationError(f"{network} is no address range: {error}") from None


def validate_labels(labels: object) -> None:
    """A JSON object whose values are texts."""
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ValidationError('labels are an object with texts: {"zone": "a"}')


class Node(models.Model):
    """A node agent, under the identifier that it reports with. It is lost exactly while it has no heartbeat row."""

    name = models.CharField(max_length=253, unique=True, validators=[validate_node_name])
    # What the node agent compares by equality: 0 until it had a config, then a number that is never used twice.
    config_version = models.BigIntegerField(db_default=0, editable=False)
    schedulable = models.BooleanField(
        db_default=True, help_text="Off: cordoned. It gets nothing new and keeps what it has."
    )
    # Cordoned, and what it has moves away bit by bit.
    draining = models.BooleanField(db_default=False, editable=False)
    # It said goodbye: it gets nothing until it starts anew.
    leaving = models.BooleanField(db_default=False, editable=False)
    # When it said so, while it leaves.
    left_at = models.DateTimeField(null=True, editable=False)
    # It said that it restarts: until then it keeps what it has, however silent, and gets nothing new.
    kept_until = models.DateTimeField(null=True, editable=False)
    # It comes and goes: until then it gets nothing new, if others can take it.
    not_before = models.DateTimeField(null=True, editable=False)
    # What it says it may run, as JSON with sorted keys; empty when it says nothing.
    declared = models.TextField(db_default="", editable=False)
    # What names have in common that look alike; unknown of nodes that an older release registered.
    likeness = models.BigIntegerField(null=True, editable=False)
    labels = models.JSONField(default=dict, blank=True)
    # Its share compared with others of as many workers, and the most configs that it may have. Rules set them.
    weight = models.FloatField(db_default=1.0, editable=False)
    max_configs = models.PositiveIntegerField(null=True, editable=False)
    first_seen = models.DateTimeField(db_default=Now(), editable=False)
    lost_at = models.DateTimeField(null=True, editable=False)

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.CheckConstraint(name="node_is_named", condition=~models.Q(name=""))]
        indexes = [
            # Read by Node.objects.prune() and the list of lost nodes; the living are found by their heartbeat.
            models.Index(fields=["lost_at"], name="node_lost", condition=models.Q(lost_at__isnull=False)),
            models.Index(fields=["likeness"], name="node_likeness"),  # at registration, and what needs somebody
            models.Index(fields=["first_seen"], name="node_first_seen"),  # how many names are new
            # Read by each pass: goodbyes that may be void, or too many.
            models.Index(
                fields=["id"],
                name="node_goodbye",
                condition=models.Q(leaving=True) | models.Q(kept_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def looks_like(self) -> str:
        """The first known nodes whose names differ from its own in what the eye passes over; empty when there are none."""
        others = Node.objects.known().filter(likeness=likeness(self.name)).exclude(pk=self.pk).order_by("name")
        return ", ".join(others.values_list("name", flat=True)[:3])

    def obey(self, rules: Iterable["NodeRule"]) -> bool:
        """Take labels and limits from these rules, the last word counts. Returns whether that changed something."""
        before = self.labels, self.weight, self.max_configs
        self.labels, self.weight, self.max_configs = {}, 1.0, None
        for rule in rules:
            # An empty list counts as empty labels, which no validator sees.
            self.labels = self.labels | (rule.labels or {})
            self.weight = rule.weight or self.weight
            self.max_configs = self.max_configs if rule.max_configs is None else rule.max_configs
        return before != (self.labels, self.weight, self.max_configs)


class NodeType(models.IntegerChoices):
    """What a node agent says it is (protocol: `node_type`)."""

    UNKNOWN = 0, "unknown"
    RUNNER = 1, "cluster check runner"
    NODE_AGENT = 2, "node agent"


class Heartbeat(models.Model):
    """When a node was last heard. The row exists exactly while its node is not lost; no index but the key (HOT updates)."""

    node = models.OneToOneField(Node, models.CASCADE, primary_key=True)
    seen_at = models.DateTimeField(db_default=Now())
    acknowledged = models.BigIntegerField(db_default=0)
    node_type = models.SmallIntegerField(choices=NodeType, db_default=NodeType.UNKNOWN)
    client_ip = models.GenericIPAddressField(null=True)
    # The address that it had before this one, since it registered.
    former_ip = models.GenericIPAddressField(null=True)

    objects = HeartbeatQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.node_id} heard {self.seen_at:%H:%M:%S}"


class NodeRule(models.Model):
    """What nodes of a kind are called and may be given. Applied when a node registers, since the names of pods don't last."""

    pattern = models.CharField(
        "names", max_length=253, default="*", help_text="Of nodes, with * and ?: runner-*", blank=True
    )
    network = models.CharField(
        max_length=64, blank=True, validators=[validate_network], help_text="Of addresses: 10.1.0.0/16. Empty: all."
    )
    node_type = models.SmallIntegerField("type", choices=NodeType, null=True, blank=True, help_text="Empty: all.")
    labels = models.JSONField(default=dict, blank=True, validators=[validate_labels], help_text='{"zone": "a"}')
    weight = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01)],
        help_text="Its share compared with others: 0.5 is half.",
    )
    max_configs = models.PositiveIntegerField("most configs", null=True, blank=True)
    author = models.CharField(max_length=253, blank=True, editable=False)
    note = models.TextField(blank=True)
    time = models.DateTimeField(db_default=Now(), editable=False)

    objects = NodeRuleQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.pattern} {self.network}".strip()

    def covers(self, name: str, client_ip: str | None, node_type: int) -> bool:
        """Whether it is about a node of that name, address and type."""
        return (
            fnmatchcase(name, self.pattern or "*")
            and self.node_type in (None, node_type)
            and (not self.network or _is_within(client_ip, self.network))
        )


def _is_within(address: str | None, network: str) -> bool:
    return address is not None and ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


class Hearing(models.Model):
    """One row: since when passes can hear the node agents, and whether silence counts. Written by passes alone."""

    last_pass = models.DateTimeField(null=True)
    hearing_since = models.DateTimeField(null=True)
    braked_since = models.DateTimeField(null=True)
    # The first of a row of late passes; empty again when passes were on time for a full timeout.
    late_since = models.DateTimeField(null=True)
    # A new database places nothing before this time, which is unknown until a node reported and the sources were read.
    warm_until = models.DateTimeField(null=True)
    warmup = models.BooleanField(db_default=True)
    # New names of nodes that were refused since ever, and when the last ones were. Written by whoever refuses them.
    names_refused = models.BigIntegerField(db_default=0)
    names_refused_at = models.DateTimeField(null=True)

    objects = HearingManager()

    class Meta:
        constraints = [models.CheckConstraint(name="hearing_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"hearing since {self.hearing_since}"

    def judge(self, now: datetime, silence: Silence, *, forgetful: bool = False) -> None:
        """Whether silence means death (hearing), our own deafness, or too many deaths to believe (braked).

        Deaf: every node fell silent at once, or no pass ran for a while, or the database may have forgotten whom it heard:
        every node gets a full timeout from now. Not for ever: when late passes, or brakes that end, go on for LATE_COUNTS
        timeouts while most nodes are heard, it is not the reports that are late.
        Braked: more fell silent, or said goodbye, than is likely (a broken load balancer, a cut network, somebody who speaks
        in their names); they expire only if that lasts.
        """
        if self.hearing_since:
            self.hearing_since = min(self.hearing_since, now)  # the database's clock was set back
        asleep = self._is_late(now) and (
            now - (self.late_since or now) <= conf.NODE_EXPIRATION_TIMEOUT * LATE_COUNTS
            or 2 * silence.silent > silence.known
        )
        if asleep or forgetful or (silence.known >= 2 and silence.silent == silence.known):
            self.hearing_since = self.braked_since = now
            if 2 * silence.silent > silence.known:
                # It was no late pass alone: nobody was heard.
                self.late_since = now
        elif silence.alarming():
            self.braked_since = self.braked_since or now
        elif self.braked_since:
            self.braked_since = None
            # Nodes that fall silent and come back together, again and again, keep no other one alive for ever.
            self.late_since = self.late_since or now
            if now - self.late_since <= conf.NODE_EXPIRATION_TIMEOUT * LATE_COUNTS:
                self.hearing_since = now

    def _is_late(self, now: datetime) -> bool:
        """Whether the last pass is too long ago to have heard all that was silent since; notes since when that is so."""
        late = self.last_pass is not None and now - self.last_pass > conf.NODE_EXPIRATION_TIMEOUT / 2
        if self.late_since:
            self.late_since = min(self.late_since, now)
        if late:
            self.late_since = self.late_since or now
        elif not self.braked_since and (
            self.hearing_since is None or now - self.hearing_since > conf.NODE_EXPIRATION_TIMEOUT
        ):
            self.late_since = None
        return late


class Memory(models.Model):
    """One row of a table that no crash outlives: while it is there, no heartbeat that was answered is lost.

    Heartbeats don't wait for the disk, so a crash loses those of its last moments, and a standby that takes over may lack
    more. The table is unlogged: PostgreSQL empties it when it recovers from a crash, and on a standby it is empty.
    """

    def __str__(self) -> str:
        return "memory"


class NodeEvent(models.Model):
    """What happened to a node. It outlives the node, so it holds the name."""

    # The cause of a restart of which the node told us before.
    ANNOUNCED = "announced"

    class Kind(models.TextChoices):
        REGISTERED = "registered"
        RESTARTED = "restarted"
        SILENT = "silent"
        EXPIRED = "expired"
        BACK = "back"
        CORDONED = "cordoned"
        UNCORDONED = "uncordoned"
        DRAINING = "draining"
        LEAVING = "leaving"
        RESTARTING = "restarting"
        FLAPPING = "flapping"
        DECLARED = "declared"
        NOT_RUNNING = "not running"
        QUARANTINED = "quarantined"
        RELEASED = "released"
        TWO_ADDRESSES = "two addresses"
        # It told stats that can't be.
        CLAMPED = "clamped"
        # Its goodbye does not count.
        GOODBYE_VOID = "goodbye void"
        LOOKS_ALIKE = "looks alike"

    # What a node's own words cause, as often as it likes.
    SAID = frozenset({Kind.RESTARTED, Kind.LEAVING, Kind.RESTARTING, Kind.FLAPPING, Kind.DECLARED, Kind.GOODBYE_VOID})

    node_name = models.CharField(max_length=253)
    kind = models.CharField(max_length=16, choices=Kind)
    cause = models.TextField(db_default="")
    time = models.DateTimeField(db_default=Now())

    objects = NodeEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["node_name", "-id"], name="nodeevent_of_node"),  # a node's page; the silent transition
            models.Index(fields=["time"], name="nodeevent_by_time"),  # prune()
        ]

    def __str__(self) -> str:
        return f"{self.node_name} {self.kind}"

    @property
    def told(self) -> str:
        """The cause as people see it: what is about a config names it by its digest, and is told by its short ID."""
        if self.kind in (self.Kind.NOT_RUNNING, self.Kind.QUARANTINED):
            check, _, digest = self.cause.rpartition(" ")
            return f"{scrub(check)} {short_id(digest)}".strip()
        return scrub(self.cause)


class Runner(models.Model):
    """What a node's stats API told last, and whether it still answers. Every node that was ever asked has one."""

    node = models.OneToOneField(Node, models.CASCADE, primary_key=True)
    # Unknown until it said; then the last number that it named, also while it does not answer.
    workers = models.PositiveIntegerField(null=True)
    stats_at = models.DateTimeField(null=True)
    # Calls that failed since the last one that did not, and since ever.
    failures = models.PositiveIntegerField(db_default=0)
    failed_total = models.BigIntegerField(db_default=0)
    error = models.CharField(max_length=200, db_default="")
    # What it told last that can't be, and so does not count as it was told; empty when all can.
    clamped = models.CharField(max_length=200, db_default="")
    # Workers that it needs for checks that are not ours.
    own_load = models.FloatField(db_default=0.0)

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
