"""The map: its lock, the assignments of configs to nodes, and the ledger of moves."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.models import Count, F
from django.db.models.functions import Coalesce, Now

from checks.models.configs import Config, Instance, Origin
from checks.models.handovers import Handover, Promise
from checks.models.orders import ORDERS
from checks.models.titles import called
from clusteragent.lib.clock import ago, later
from clusteragent.lib.database.bulk import copy, without_nested_loops
from clusteragent.lib.database.listening import notify
from nodes.models import Node

CHANNEL = "clusteragent"
# For so long no pass takes a config again from a node that did not say that it stopped it.
WITHDRAWN_RESTS = timedelta(minutes=5)


class Call(enum.StrEnum):
    """What the leader is asked to do: the payload of a notification.

    PROVE: to ask runners whether what they took over runs. PORTS: to ask the ports of nodes that may be dead.
    """

    PASS = enum.auto()
    SCAN = enum.auto()
    PROVE = enum.auto()
    PORTS = enum.auto()


class NotLeader(Exception):
    """The term of the caller is over: another process leads now."""


class ClusterStoreManager(models.Manager["ClusterStore"]):
    """The lock of the map, the term of the leader, and calls to the leader."""

    def lock(self, term: int | None = None) -> ClusterStore:
        """Lock the map until the transaction ends, and return its row with `now`. Raises NotLeader when `term` is over.

        NO KEY UPDATE is the weakest mode that excludes itself, so only other changes of the map wait.
        """
        store = self.select_for_update(no_key=True).annotate(now=Now()).get()  # type: ignore[no-redef]
        if term is not None and store.term != term:
            raise NotLeader(f"term {term} is over, the leader's is {store.term}")
        return store

    def require(self, term: int) -> None:
        """Raise NotLeader if this term is over, without waiting for the lock: for work that changes no map."""
        if not self.filter(term=term).exists():
            raise NotLeader(f"term {term} is over")

    def wake(self, call: Call = Call.PASS) -> None:
        """Ask the leader for a pass now, or for something else, when the transaction commits."""
        notify(CHANNEL, call)

    # The next methods take the cursor of the session that holds the leader's lock: a session that lost it can't begin a term.
    def begin_term(self, cursor: Any, leader: str) -> int:
        """Begin a term and return its number, which was never used: not even by a term whose commit a failover lost."""
        cursor.execute(
            f"UPDATE checks_clusterstore SET leader = %s, term = {later('term')} RETURNING term",  # noqa: S608 - our own words
            (leader[:253],),
        )
        return int(cursor.fetchone()[0])

    def current_term(self, cursor: Any) -> int:
        """Return the term that changes of the map are compared with."""
        cursor.execute("SELECT term FROM checks_clusterstore")
        return int(cursor.fetchone()[0])

    def listen(self, cursor: Any) -> None:
        """Receive the calls of wake() in this session from now on."""
        cursor.execute(f"LISTEN {CHANNEL}")


class ClusterStore(models.Model):
    """A single row: the lock of every change of the map. Its term rejects changes by processes that no longer lead."""

    term = models.BigIntegerField(db_default=0)
    leader = models.CharField(max_length=253, db_default="")
    revision = models.BigIntegerField(db_default=0)
    # How many transactions of leaders' tasks changed the map: the sign of life of a task that takes many.
    steps = models.BigIntegerField(db_default=0)
    # The leader's secrets, {name: hash}: see operators/fingerprints.py.
    fingerprints = models.JSONField(default=dict, db_default={})
    now: datetime  # the database's time, only on a row that lock() returned

    objects = ClusterStoreManager()

    class Meta:
        constraints = [models.CheckConstraint(name="clusterstore_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"term {self.term}, revision {self.revision}"


# A node that never lost a config keeps its version when the config is given back to it. Greater versions are none of ours: a
# lie, or of a database that was restored.
_ACKNOWLEDGED = """(
    {acknowledged} BETWEEN least(extract(epoch FROM {since}) * 1000000000, {version}) AND {version}
)"""


def fetched(since: str) -> str:
    """Return SQL that says whether a node has fetched its config as it is since then: a version from then on, or its present one.

    Its names: a, h and n are the rows of assignment, heartbeat and node.
    """
    acknowledged = _ACKNOWLEDGED.format(acknowledged="h.acknowledged", since=since, version="n.config_version")
    return f"""(
        {acknowledged}
        AND NOT EXISTS (SELECT FROM checks_handover AS o WHERE o.config_id = a.config_id AND o.promise = 'strict')
    )"""


class _Acknowledged(models.Func):
    """The version part of `fetched` in a queryset. Its arguments: the acknowledged version, since when, the present version."""

    output_field = models.BooleanField()

    def as_sql(self, compiler: Any, *_: Any, **__: Any) -> tuple[str, tuple[str | int, ...]]:
        """Return the SQL; its arguments are columns."""
        acknowledged, since, version = (compiler.compile(one)[0] for one in self.source_expressions)
        return _ACKNOWLEDGED.format(acknowledged=acknowledged, since=since, version=version), ()


def remove_configs(ids: Collection[int]) -> None:
    """Delete configs with all that is theirs; their orders stay. Not delete(), which fetches each row."""
    for related in (Instance, Assignment, Origin, Handover):
        related.objects.filter(config_id__in=ids).delete()
    for orders in ORDERS:
        orders.objects.detach(ids)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM checks_config WHERE id = ANY(%s)", [list(ids)])


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    """Queries and bulk updates of assignments."""

    def counts(self) -> dict[int, int]:
        """Return how many configs each node has: {node's id: number}."""
        return dict(self.values_list("node_id").annotate(Count("pk")).order_by())

    def unfetched(self) -> AssignmentQuerySet:
        """Those whose nodes did not fetch them yet, as `fetched` says it."""
        said = _Acknowledged("node__heartbeat__acknowledged", "since", "node__config_version")
        waits = Handover.objects.filter(pk=models.OuterRef("pk"), promise=Promise.STRICT)
        return self.alias(said=Coalesce(said, False)).filter(models.Q(said=False) | models.Exists(waits))

    def untold(self) -> AssignmentQuerySet:
        """Adopted ones whose nodes did not fetch them from us yet: they run there all the same, and must not move before."""
        return self.filter(reason=Move.Reason.ADOPTED).unfetched()

    def withdrawn(self) -> AssignmentQuerySet:
        """Those whose nodes had them back lately, since they did not say that they stopped them. Asking again at once, again and
        again, would keep the configs from running.
        """
        return self.filter(reason=Move.Reason.WITHDRAWN, since__gte=ago(WITHDRAWN_RESTS))

    def unsettled(self) -> AssignmentQuerySet:
        """Those that are under way: adopted and untold, withdrawn, or being handed over. What can wait leaves them."""
        rests = models.Q(pk__in=self.untold()) | models.Q(pk__in=self.withdrawn())
        return self.filter(rests | models.Q(pk__in=Handover.objects.values("pk")))

    def transfer(self, owners: Sequence[tuple[int, int | None]], reason: str) -> None:
        """Give configs that have an owner to another. owners: (config's id, node's id)."""
        with connection.cursor() as cursor:
            # Not the ORM: its bulk_update makes a CASE branch for each row.
            cursor.execute(
                "UPDATE checks_assignment AS a SET node_id = n.node_id, since = statement_timestamp(), reason = %s"
                " FROM unnest(%s::bigint[], %s::bigint[]) AS n (config_id, node_id) WHERE a.config_id = n.config_id",
                [reason, [config for config, _ in owners], [node for _, node in owners]],
            )

    # One statement, since deletion, dangling state and ledger must be of the same rows.
    _TAKE_AWAY = """
        WITH gone AS (
            DELETE FROM checks_assignment WHERE config_id IN (
                SELECT config_id FROM checks_assignment WHERE node_id = ANY(%(nodes)s) ORDER BY config_id LIMIT %(most)s
            ) RETURNING config_id, node_id
        ), dangling AS (
            UPDATE checks_config AS c SET dangling_since = statement_timestamp(), former_node_id = gone.node_id
            FROM gone WHERE c.id = gone.config_id RETURNING c.id, c.digest, c.name, c.title, gone.node_id
        )
        INSERT INTO checks_move (config_id, digest, name, title, source_node, to_node, reason, actor, term, time)
        SELECT d.id, d.digest, d.name, d.title, n.name, '', %(reason)s, %(actor)s, %(term)s, statement_timestamp()
        FROM dangling AS d JOIN nodes_node AS n ON n.id = d.node_id
        ORDER BY d.id
        RETURNING *
    """

    def take_away(self, node_ids: Collection[int], *, most: int, reason: str, term: int, actor: str = "") -> list[Move]:
        """Take at most `most` configs from these nodes: they dangle, the ledger notes it, and the moves are returned."""
        values = {"nodes": list(node_ids), "most": most, "reason": reason, "term": term, "actor": actor}
        return list(Move.objects.raw(self._TAKE_AWAY, values))


class Assignment(models.Model):
    """The node that runs a config: at most one, since the config is the key."""

    config = models.OneToOneField(Config, models.CASCADE, primary_key=True)
    node = models.ForeignKey(Node, models.PROTECT, related_name="assignments")
    since = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=16)

    objects = AssignmentQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.config_id} on {self.node_id}"


class Suspect(NamedTuple):
    """A config and the names of the nodes that died soon after they got it."""

    config_id: int
    nodes: list[str]


class MoveQuerySet(models.QuerySet["Move"]):
    """Writes and reads the ledger."""

    _FIELDS = (
        "config_id", "digest", "name", "title", "source_node", "to_node", "reason", "actor", "term", "time", "promise",
        "plan",
    )  # fmt: skip

    def write(self, moves: Sequence[Move]) -> None:
        """Write moves to the ledger. Call it in the transaction that makes them."""
        columns = attrgetter(*self._FIELDS)
        rows = ((*columns(move), json.dumps(move.why) if move.why else None) for move in moves)
        copy(self.model, (*self._FIELDS, "why"), rows)

    # A stay of a config on a node ends with its next move. A config with other bytes counts as another one, since the edit may
    # have repaired it. Deaths before an earlier quarantine of the config do not count again.
    _SUSPECTS = """
        WITH death AS (
            SELECT node_name, time FROM nodes_nodeevent
            WHERE kind IN ('expired', 'restarted') AND cause <> 'announced' AND time >= statement_timestamp() - %(span)s
        ), stay AS (
            SELECT config_id, digest, to_node, time,
                lead(time, 1, 'infinity') OVER (PARTITION BY config_id ORDER BY id) AS until
            FROM checks_move WHERE time >= statement_timestamp() - %(span)s - %(soon)s
        ), quarantined AS MATERIALIZED (
            SELECT cause, max(time) AS time FROM nodes_nodeevent
            WHERE kind = 'quarantined' AND time >= statement_timestamp() - %(span)s GROUP BY cause
        ), victim AS (
            SELECT DISTINCT c.id, s.to_node
            FROM death AS d
            JOIN stay AS s ON s.to_node = d.node_name AND d.time BETWEEN s.time AND least(s.time + %(soon)s, s.until)
            JOIN checks_config AS c ON c.id = s.config_id AND c.digest = s.digest
            WHERE NOT EXISTS (SELECT FROM checks_isolation AS i WHERE i.config_id = c.id)
                AND NOT EXISTS (
                    SELECT FROM quarantined AS q WHERE split_part(q.cause, ' ', -1) = c.digest AND q.time >= d.time
                )
        )
        SELECT id, array_agg(to_node::text ORDER BY to_node) FROM victim
        GROUP BY id HAVING count(*) >= %(victims)s ORDER BY id
    """

    def suspects(self, victims: int, span: timedelta, soon: timedelta) -> list[Suspect]:
        """Return configs after which at least `victims` nodes died: unannounced, in `span`, each `soon` after getting it."""
        values: dict[str, Any] = {"victims": victims, "span": span, "soon": soon}
        with without_nested_loops() as cursor:
            cursor.execute(self._SUSPECTS, values)
            return [Suspect(*row) for row in cursor.fetchall()]

    # A move is written by whoever begins the hand-over, and its end by whoever ends it. Not the ORM: one look into the index
    # for each config, however many moves it has.
    _HAND = """
        UPDATE checks_move AS m SET handed_at = %(time)s
        FROM unnest(%(ids)s::bigint[]) AS c (id), LATERAL (
            SELECT id FROM checks_move WHERE config_id = c.id AND source_node <> to_node ORDER BY id DESC LIMIT 1
        ) AS last
        WHERE m.id = last.id AND m.promise <> '' AND m.handed_at IS NULL
    """

    def hand(self, config_ids: Collection[int], time: datetime) -> None:
        """Note that the last moves of these configs were handed over at that time."""
        with connection.cursor() as cursor:
            cursor.execute(self._HAND, {"ids": list(config_ids), "time": time})

    def last_of(self, config_ids: Collection[int]) -> dict[int, int]:
        """Return the last move of each of these configs that changed its owner: {config's id: move's id}."""
        changes = self.filter(config_id__in=config_ids).exclude(source_node=F("to_node"))
        last = changes.order_by("config_id", "-id").distinct("config_id")
        return dict(last.values_list("config_id", "pk"))


def move_reasons() -> list[tuple[str, str]]:
    """Return the choices of a move's reason. They are given as a function, so that a new reason needs no migration."""
    return Move.Reason.choices


class Move(models.Model):
    """The ledger: one row for each change of an owner, written in the same transaction. It outlives the config and the nodes.

    A config that is removed while nobody has it has a row, too, from nobody to nobody.
    """

    class Reason(models.TextChoices):
        """Why a config changed its owner. The wording for people is in checks/explain/reasons.py."""

        SCHEDULED = "scheduled"
        CHANGED = "changed"
        UNSCHEDULED = "unscheduled"
        EXPIRED = "expired"
        REDISPATCHED = "redispatched", "Placed after waiting"
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
        ADOPTED = "adopted"
        UNFETCHED = "unfetched"
        WITHDRAWN = "withdrawn"
        RETURNED = "returned"

    config_id = models.BigIntegerField()
    digest = models.CharField(max_length=16)
    name = models.CharField("check", max_length=253)
    # How people called the config: it may be gone.
    title = models.CharField(max_length=250, default="", db_default="")
    source_node = models.CharField("from", max_length=253, db_default="")
    to_node = models.CharField("to", max_length=253, db_default="")
    reason = models.CharField(max_length=16, choices=move_reasons)
    actor = models.CharField(max_length=253, db_default="")
    term = models.BigIntegerField(db_default=0)
    time = models.DateTimeField(db_default=Now())
    # What the hand-over that began or went on with it promises, empty without one; and when that was done: the new node had the
    # config and the former one did not. Null while it lasts, and if something else came of it.
    promise = models.CharField(max_length=8, default="", db_default="")
    handed_at = models.DateTimeField(null=True)
    # When a node was chosen: {"cost": …, "of": number of nodes that could have it, "best": [[node, load before], …]}, with
    # "assumed" if its cost was not measured; and "forbidden_by": the rule that the former node breaks.
    why = models.JSONField(null=True)
    # The number of the plan that it is of; null for moves without one, and for those of older versions.
    plan = models.BigIntegerField(null=True)

    objects = MoveQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["config_id", "-id"], name="move_of_config"),  # a config's page
            models.Index(fields=["time"], name="move_by_time"),  # pruning, ranges of time
        ]

    def __str__(self) -> str:
        return f"{self.shown} {self.source_node or '-'} → {self.to_node or '-'} ({self.reason})"

    @property
    def shown(self) -> str:
        """The config as people see it."""
        return called(self.title, self.name, self.digest)


class MoveTotal(models.Model):
    """The number of moves of a reason since the beginning. A trigger of the ledger counts; pruning does not lower it.

    The row DECIDED has the number of moves that applied rebalances planned. A trigger of the plans counts.
    """

    DECIDED = "decided"

    reason = models.CharField(max_length=16, primary_key=True)
    number = models.BigIntegerField(db_default=0)

    def __str__(self) -> str:
        return f"{self.number} {self.reason}"


class TaskRunManager(models.Manager["TaskRun"]):
    """Notes runs of tasks."""

    def note(self, name: str, seconds: float, *, state: str = "", due_at: Any = None, result: str = "") -> None:
        """Note that a task ended well now, after so many seconds; state, due_at: for its next run; result: for others to read."""
        run = self.model(name=name, seconds=seconds, ended_at=Now(), state=state, due_at=due_at, result=result)
        fields = ["seconds", "ended_at", "state", "due_at", "result"]
        self.bulk_create([run], update_conflicts=True, unique_fields=["name"], update_fields=fields)


class TaskRun(models.Model):
    """The last successful run of a task, and how many seconds it took."""

    name = models.CharField(max_length=16, primary_key=True)
    ended_at = models.DateTimeField(db_default=Now())
    seconds = models.FloatField()
    # What it found, and when the next run is due: for tasks that have nothing to do while nothing has changed.
    state = models.CharField(max_length=64, db_default="")
    due_at = models.DateTimeField(null=True)
    # What it worked out for others to read.
    result = models.TextField(db_default="")

    objects = TaskRunManager()

    def __str__(self) -> str:
        return f"{self.name} took {self.seconds:.1f} s"
