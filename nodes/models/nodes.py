"""nodeStore: the node agents that report to us; who is alive, silent or lost, and who may be given work."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Case, Count, Exists, F, Min, OuterRef, Q, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Now, NullIf

from acts.models import Act
from acts.recording import record
from clusteragent.lib import conf
from clusteragent.lib.clock import ago, later
from clusteragent.lib.database import bulk
from clusteragent.lib.database.arrays import array
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.spelling import is_misspelt
from clusteragent.lib.words import listed, utc
from nodes.models.events import NodeEvent
from nodes.models.hearing import OVERDUE, Hearing
from nodes.names import likeness, validate_node_name
from nodes.signals import node_arrived, node_changed

# How long a node that said that it restarts keeps what it has.
RESTART_TIME = timedelta(seconds=60)
# A node that is uncordoned may be given work, whatever it said before.
READMITTED = {"leaving": False, "kept_until": None, "drain_by": None}
# What cordons and drains set.
_CORDON = ("schedulable", "draining", "drain_by")
# What a probe proved counts for so long.
PROOF_HOLDS = timedelta(seconds=10)
# Lost nodes that are kept at most.
MOST_LOST = 50_000
# In timeouts. Nodes that all reported just before a cut of 40 s report again up to 50 s after its beginning.
BRAKE_HOLDS = 1.5


class UnknownNode(LookupError):
    """No such node reports to us."""


class NodeType(models.IntegerChoices):
    """What a node agent says it is (protocol: `node_type`)."""

    UNKNOWN = 0, "unknown"
    RUNNER = 1, "cluster check runner"
    NODE_AGENT = 2, "node agent"


# Of the intakes of nodes those that get something new, the latter only where no other can have it.
OPEN = ("open", "flapping")


def intake() -> Case:
    """`open`, or why a node gets nothing new. Where several hold, the first is named."""
    words = {
        "draining": Q(draining=True),
        "cordoned": Q(schedulable=False),
        "leaving": Q(leaving=True),
        "restarting": Q(kept_until__gte=Now()),
        "flapping": Q(not_before__gte=Now()),
    }
    return Case(*(When(condition, then=Value(word)) for word, condition in words.items()), default=Value("open"))


def domain(node: str = "") -> Coalesce:
    """The failure domain of a node: its label DOMAIN_LABEL, else the zone of its pod, else empty. node: the path to it."""
    label = NullIf(KeyTextTransform(conf.DOMAIN_LABEL, f"{node}labels"), Value(""))
    return Coalesce(label, F(f"{node}pod__zone"), Value(""), output_field=models.TextField())


def domain_of(labels: Mapping[str, str], zone: str | None) -> str:
    """The failure domain of a node with these labels and the zone of its pod: what `domain` reads of a row."""
    return labels.get(conf.DOMAIN_LABEL) or zone or ""


def named_domain(domain: str) -> str:
    """A failure domain as people read it: `zone b`, or `no zone`."""
    label = conf.DOMAIN_LABEL.rpartition("/")[2]
    return f"{label} {domain}" if domain else f"no {label}"


def probed(heartbeat: str = "", **found: Any) -> Q:
    """Whether a probe since the last report of a node found this. heartbeat: the path to its heartbeat."""
    said = {"seen_at": F(f"{heartbeat}seen_at"), "address": F(f"{heartbeat}client_ip")}
    return Q(**{f"{heartbeat}probe__{name}": value for name, value in (said | found).items()})


def deaths(heartbeat: str = "", node: str = "node__") -> dict[str, Q]:
    """Why a node may be dead: {cause of its event: condition}, what counts first first. heartbeat, node: the paths to them.

    It is late (the cause is empty), or it has said nothing since a proof of its death, if that is wanted.
    """
    found = {"": Q(**{f"{heartbeat}seen_at__lt": ago(conf.NODE_EXPIRATION_TIMEOUT)})}
    if conf.PROOF_OF_DEATH in ("all", "pod"):
        found[NodeEvent.POD_GONE] = Q(**{f"{node}pod__gone_at__gt": F(f"{heartbeat}seen_at")})
    if conf.PROOF_OF_DEATH in ("all", "port"):
        found[NodeEvent.REFUSES] = probed(heartbeat, proven_at__gte=ago(PROOF_HOLDS))
    return found


class NodeQuerySet(models.QuerySet["Node"]):
    def known(self) -> NodeQuerySet:
        """Nodes that are not lost."""
        return self.filter(heartbeat__isnull=False)

    def lost(self) -> NodeQuerySet:
        """Nodes that expired and did not return."""
        return self.filter(heartbeat__isnull=True)

    def unknown(self, name: str) -> UnknownNode:
        """Return the error for a name that no known node has. It says if the node is lost, or spelt otherwise."""
        if self.lost().filter(name=name).exists():
            return UnknownNode(f"node {name} is lost: it gets nothing until it reports again")
        alike = self.known().spelt_like(name)
        meant = f", did you mean {listed(alike)}?" if alike else ""
        return UnknownNode(f"node {name} is unknown{meant}")

    def spelt_like(self, name: str) -> list[str]:
        """Return the names of these nodes that a misspelt name may mean, in their order."""
        return [one for one in self.order_by("name").values_list("name", flat=True) if is_misspelt(name, one)]

    def none_reported(self) -> bool:
        """Whether there are known nodes, and not one of them ever reported: all were registered for them, as adopting does.

        Such a node has the heartbeat with which it was registered, which says nothing about it.
        """
        known, untold = self.known(), {"acknowledged": 0, "node_type": NodeType.UNKNOWN, "client_ip": None}
        # Usually the first row that is read decides.
        if known.exclude(**{f"heartbeat__{name}": value for name, value in untold.items()}).exists():
            return False
        kinds = (NodeEvent.Kind.REGISTERED, NodeEvent.Kind.BACK)
        came = NodeEvent.objects.filter(node_name=OuterRef("name"), kind__in=kinds, time=OuterRef("heartbeat__seen_at"))
        return known.exists() and not known.exclude(Exists(came)).exists()

    def silent(self) -> NodeQuerySet:
        """Known nodes without a heartbeat for half the expiration timeout."""
        return self.filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def with_signal(self) -> Any:  # a NodeQuerySet whose annotations may be filtered by
        """Each known node with its `intake`, and its `signal`: heard within half the timeout; `unsure`, in the first half after
        we were deaf; `silent`, also from the first refusal of its port on; or `overdue`, for longer than the timeout, which
        begins anew after we were deaf.
        """
        half, whole = (ago(conf.NODE_EXPIRATION_TIMEOUT * share) for share in (1 / 2, 1))
        deaf = Hearing.objects.deaf_lately
        refuses = probed("heartbeat__", refused_at__isnull=False, doubted=False)
        refusing = When(refuses, heartbeat__seen_at__gte=half, then=Value("silent"))
        heard = When(heartbeat__seen_at__gte=half, then=Value("heard"))
        unsure = When(Exists(deaf(1 / 2)), then=Value("unsure"))
        silent = When(Q(heartbeat__seen_at__gte=whole) | Exists(deaf()), then=Value("silent"))
        return self.known().annotate(
            signal=Case(refusing, heard, unsure, silent, default=Value("overdue")), intake=intake()
        )

    def alive(self) -> NodeQuerySet:
        """Known nodes heard within the timeout; all known ones within it after we were deaf."""
        alive: NodeQuerySet = self.with_signal().exclude(signal="overdue")
        return alive

    def accepting(self) -> NodeQuerySet:
        """Nodes that may be given work: neither closed nor silent.

        Of nodes that die together some expire first; their work must not go to those that are about to.
        """
        accepting: NodeQuerySet = self.with_signal().filter(signal__in=("heard", "unsure"), intake__in=OPEN)
        return accepting

    def are_last(self, names: Collection[str]) -> bool:
        """Whether nodes may be given work now, and none could be without these."""
        accepting = self.accepting()
        return accepting.exists() and not accepting.exclude(name__in=names).exists()

    def runners(self) -> NodeQuerySet:
        """Known cluster check runners; a node that names no type is one if it names its address."""
        kinds, unnamed = NodeType, Q(heartbeat__client_ip__isnull=False)
        return self.known().filter(
            Q(heartbeat__node_type=kinds.RUNNER) | Q(unnamed, heartbeat__node_type=kinds.UNKNOWN)
        )

    def expected(self) -> NodeQuerySet:
        """Known nodes whose silence means something: not those that said goodbye."""
        return self.known().filter(Q(kept_until=None) | Q(kept_until__lt=Now()), leaving=False)

    def goodbyes(self, span: timedelta) -> tuple[int, datetime | None]:
        """How many known nodes said goodbye in that time and did not start again since, and when the first of them did."""
        # Spelt like the condition of the index `node_goodbye`.
        leavers = self.known().filter(Q(leaving=True) | Q(kept_until__isnull=False))
        left = Case(When(leaving=True, then=F("left_at")), default=F("kept_until") - RESTART_TIME)
        lately = leavers.annotate(said=models.ExpressionWrapper(left, models.DateTimeField())).filter(
            said__gte=ago(span)
        )
        counted = lately.aggregate(number=Count("pk"), first=Min("said"))
        return counted["number"], counted["first"]

    def absent(self, names: Collection[str]) -> tuple[set[str], set[str]]:
        """Of these names: those that are new to us, and those of lost nodes."""
        with connection.cursor() as cursor:
            # Not the ORM, which takes as long to make the statement as the database takes for it.
            cursor.execute(
                "SELECT n.name, h.node_id FROM nodes_node AS n LEFT JOIN nodes_heartbeat AS h ON h.node_id = n.id"
                " WHERE n.name = ANY(%s::text[])",
                [array(names)],
            )
            found = dict(cursor.fetchall())
        return set(names) - found.keys(), {name for name, heartbeat in found.items() if heartbeat is None}

    def domains(self) -> Any:
        """The names of the failure domains of known nodes, in order."""
        named = self.known().annotate(domain=domain()).exclude(domain="").order_by("domain")
        return named.values_list("domain", flat=True).distinct()

    def in_domain(self, name: str) -> NodeQuerySet:
        """The known nodes of a failure domain, in the order of their names. None for an empty name."""
        known = self.known() if name else self.none()
        found: NodeQuerySet = known.annotate(domain=domain()).filter(domain=name).order_by("name")
        return found

    def lookalikes(self) -> NodeQuerySet:
        """Known nodes whose names look like that of another known node."""
        known = Node.objects.known().order_by()
        shared = known.exclude(likeness=None).values("likeness").annotate(Count("pk")).filter(pk__count__gt=1)
        return self.known().filter(likeness__in=shared.values("likeness"))

    def with_state(self) -> NodeQuerySet:
        """Each with its `state` (alive, silent or lost), `silence`, how long ago it was last heard, and its `intake`: open, or
        why it gets nothing new (draining, cordoned, leaving, restarting or flapping). And its `domain`.
        """
        silent = When(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2), then=Value("silent"))
        lost = When(heartbeat__isnull=True, then=Value("lost"))
        silence = models.ExpressionWrapper(Now() - F("heartbeat__seen_at"), models.DurationField())
        found: NodeQuerySet = self.annotate(
            state=Case(lost, silent, default=Value("alive")), silence=silence, intake=intake(), domain=domain()
        )
        return found

    def sortable_by_load(self, loads: Mapping[int, float]) -> NodeQuerySet:
        """These, to be ordered by `load`: that of {node's id: load}, else NULL. One argument, for any number of nodes."""
        load = models.Func(
            Value(json.dumps(loads)),
            Cast("pk", models.TextField()),
            template="(%(expressions)s)::float8",
            arg_joiner="::jsonb ->> ",
            output_field=models.FloatField(null=True),
        )
        found: NodeQuerySet = self.alias(load=load)
        return found

    def cordon(
        self,
        *,
        schedulable: bool = False,
        draining: bool = False,
        by: datetime | None = None,
        actor: str = "",
        plan: int | None = None,
        note: str = "",
        configs: Collection[int] = (),
    ) -> int:
        """Stop (or, with schedulable, resume) giving these nodes new work. Returns how many changed.

        draining: what they have moves away too, bit by bit, in the passes that follow; by: until then all of it.
        plan: the stored plan that it is of, if any. note: why, for the record. configs: on whose pages the act is shown.
        """
        kinds = NodeEvent.Kind
        kind = kinds.UNCORDONED if schedulable else kinds.DRAINING if draining else kinds.CORDONED
        with transaction.atomic():
            wanted = {"schedulable": schedulable, "draining": draining, "drain_by": by}
            wanted |= READMITTED if schedulable else {}
            unlike = self.exclude(**wanted)
            locked = unlike.order_by("pk").select_for_update(no_key=True).values("name", *_CORDON)
            before = {row.pop("name"): row for row in locked}
            names = list(before)
            self.model.objects.filter(name__in=names).update(**wanted)
            self._record_cordon(before, wanted, plan=plan, reason=note, configs=configs)
            NodeEvent.objects.note(names, kind, cause=f"{actor or 'someone'}, by {utc(by)}" if by else actor)
            if names and schedulable:
                node_arrived.send(sender=self.model, names=names)
            if names and draining:
                node_changed.send(sender=self.model, names=names)
        return len(names)

    def _record_cordon(self, before: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any], **how: Any) -> None:
        """Record what a person changed of the intake of nodes. before: {name: what it was}."""
        if not before:
            return
        verb = Act.Verb.UNCORDON if wanted["schedulable"] else Act.Verb.DRAIN if wanted["draining"] else Act.Verb.CORDON
        after = {name: wanted[name] for name in _CORDON}
        record(verb, listed(sorted(before)), before=dict(before), after=after, nodes=before, **how)

    def expired(self, *, force: bool = False) -> NodeQuerySet:
        """Nodes silent for longer than the timeout, unless we were deaf, the brake is on, or no other could take the work; and
        those that are proven dead.

        force: silent for longer than the timeout, whatever the rest says.
        """
        found = deaths("heartbeat__", node="")
        if force:
            return self.filter(found[""])
        is_deaf = Q(hearing_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT))
        is_braked = Q(braked_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT * BRAKE_HOLDS))
        undisturbed = Q(~Exists(Hearing.objects.disturbed()))
        counts = {
            "": Q(~Exists(Hearing.objects.filter(is_deaf | is_braked))),
            NodeEvent.POD_GONE: undisturbed & Q(Exists(self._heard_since())),
            NodeEvent.REFUSES: undisturbed,
        }
        dead = reduce(or_, (condition & counts[cause] for cause, condition in found.items()))
        return self.filter(dead).exclude(kept_until__gte=Now()).filter(Exists(self.model.objects.accepting()))

    def _heard_since(self) -> NodeQuerySet:
        """Nodes whose reports were written lately, and after the last one of an outer query's node: reports are written."""
        return self.model.objects.filter(
            heartbeat__seen_at__gt=OuterRef("heartbeat__seen_at"), heartbeat__seen_at__gte=ago(OVERDUE)
        )

    def bump_versions(self, ids: Collection[int]) -> dict[int, int]:
        """Give these nodes a config version that was never used, in the transaction of the change that it stands for.

        Returns {node's id: version}.
        """
        if not ids:
            return {}
        with connection.cursor() as cursor:
            # Not the ORM: it has no expression for nanoseconds of the database's clock.
            cursor.execute(
                f"UPDATE nodes_node SET config_version = {later('config_version')}"  # noqa: S608 - our own words
                " WHERE id IN (SELECT id FROM nodes_node WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)"
                " RETURNING id, config_version",
                (list(ids),),
            )
            return dict(cursor.fetchall())

    def forget(self, most: float = bulk.MOST) -> int:
        """Delete the lost ones of these nodes in batches. Returns how many. A node that returns at this moment stays."""
        lost = self.lost().filter(assignments__isnull=True)
        return bulk.delete(lost.order_by("pk"), most=most, cascades=True)

    def prune(self, most: float = bulk.MOST) -> int:
        """Delete nodes that have been lost for longer than the retention, and beyond MOST_LOST those lost for longest.

        In batches. Returns how many.
        """
        old = Q(lost_at__lt=ago(conf.LOST_NODE_RETENTION))
        surplus = self.filter(lost_at__isnull=False).order_by("-lost_at").values_list("lost_at", flat=True)
        for eldest in surplus[MOST_LOST : MOST_LOST + 1]:
            old |= Q(lost_at__lte=eldest)
        return self.filter(old).forget(most)


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
    # When all shall have moved away, while it drains; null: no deadline.
    drain_by = models.DateTimeField(null=True, editable=False)
    # It said goodbye: it gets nothing until it starts again.
    leaving = models.BooleanField(db_default=False, editable=False)
    # When it said so, while it leaves.
    left_at = models.DateTimeField(null=True, editable=False)
    # It said that it restarts: until then it keeps what it has, however silent, and gets nothing new.
    kept_until = models.DateTimeField(null=True, editable=False)
    # It comes and goes: until then it gets nothing new, if others can take it.
    not_before = models.DateTimeField(null=True, editable=False)
    # What it says it may run, as JSON with sorted keys; empty when it says nothing.
    declared = models.TextField(db_default="", editable=False)
    # Equal for names that look alike; null for nodes that an older release registered.
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
            models.Index(Natural("name"), name="node_in_natural_order"),  # lists in their order
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
        """Up to three known nodes whose names look like its own, with commas between; empty when there are none."""
        others = Node.objects.known().filter(likeness=likeness(self.name)).exclude(pk=self.pk).order_by("name")
        return ", ".join(others.values_list("name", flat=True)[:3])
