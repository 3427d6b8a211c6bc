"""Hand-overs: planned moves that wait until node agents have acknowledged their steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.models.functions import Now

from checks.models.configs import Config
from clusteragent.lib import conf
from nodes.models import Node


class Promise(models.TextChoices):
    """What a planned move promises of the check that it moves."""

    OVERLAP = "overlap", "overlap: the former node runs it until the new one does"
    STRICT = "strict", "strict: the new node gets it when the former one has stopped it"
    AT_ONCE = "at-once", "at once: both are told at once"


class Handing(NamedTuple):
    """What a config's hand-over is: from which node (its id) by which promise.

    between: the node that had it after that one, under overlap, and had not acknowledged it when it moved on. It may run it.
    """

    source: int
    promise: str
    between: int | None = None

    @property
    def is_strict(self) -> bool:
        """Whether the former node must have stopped the config before its owner gets it."""
        return self.promise == Promise.STRICT

    @property
    def runners(self) -> set[int]:
        """The ids of the nodes that may run it for the owner."""
        return {self.source} if self.between is None else {self.source, self.between}


class Begun(NamedTuple):
    """A hand-over to be stored. given: the version by which the node that it waits for acknowledges its step."""

    config_id: int
    handing: Handing
    given: int


class Progress(NamedTuple):
    """How far a hand-over is. owner: the id of the config's node; None if it has none.

    is_over: the config or each former node is gone. has_acknowledged: of the node that it waits for. is_proven: the new node's
    stats have the config, or it told none lately (one call that fails says nothing). is_late: the deadline is over, and that
    node was heard since it began.
    """

    config_id: int
    source: int
    promise: str
    owner: int | None
    is_over: bool
    has_acknowledged: bool
    is_proven: bool
    is_late: bool

    @property
    def handing(self) -> Handing:
        """The hand-over itself."""
        return Handing(self.source, self.promise)


class HandoverQuerySet(models.QuerySet["Handover"]):
    """Queries and bulk updates of hand-overs."""

    def begin(self, begun: Iterable[Begun]) -> None:
        """Store hand-overs. One that goes on, with another owner, has a new step and a new deadline."""
        rows = list(begun)
        if not rows:
            return
        columns = [(one.config_id, *one.handing, one.given) for one in rows]
        with connection.cursor() as cursor:
            # Not the ORM: what goes on keeps the version that its former node must acknowledge.
            cursor.execute(
                "INSERT INTO checks_handover AS h (config_id, source_id, promise, between_id, given, since)"
                " SELECT config, source, promise, between, given, statement_timestamp()"
                " FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[])"
                " AS t (config, source, promise, between, given)"
                " ON CONFLICT (config_id) DO UPDATE SET since = excluded.since, source_id = excluded.source_id,"
                " between_id = excluded.between_id, promise = excluded.promise,"
                " given = CASE WHEN h.promise = 'strict' AND excluded.promise = 'strict'"
                " THEN h.given ELSE excluded.given END",
                [list(column) for column in zip(*columns, strict=True)],
            )

    def handed_over_by(self, node: Node | models.OuterRef) -> HandoverQuerySet:
        """Those whose configs the node may run for their owners."""
        return self.filter(models.Q(source=node) | models.Q(between=node))

    def with_a_lost_node(self) -> HandoverQuerySet:
        """Those whose former node, node between or new owner is lost."""
        lost = Node.objects.filter(heartbeat__isnull=True)
        owner = lost.filter(assignments__config=models.OuterRef("config_id"))
        return self.filter(models.Q(source__in=lost) | models.Q(between__in=lost) | models.Exists(owner))

    # One statement, since a version and its acknowledgement must be of one moment. Versions that were never given to the node
    # since the step began are none of ours: another server's, or those of a database that was restored.
    _PROGRESS = """
        SELECT h.config_id, h.source_id, h.promise, a.node_id,
            c.id IS NULL OR NOT EXISTS (SELECT FROM nodes_heartbeat AS s WHERE s.node_id IN (h.source_id, h.between_id))
                OR (a.node_id IS NULL AND h.promise <> 'strict'),
            coalesce(b.acknowledged BETWEEN h.given AND w.config_version, false),
            NOT coalesce(r.stats_at >= statement_timestamp() - interval '5 minutes', false)
                OR (r.stats_at >= h.since AND (
                    NOT EXISTS (
                        SELECT FROM checks_instance AS i WHERE i.config_id = h.config_id AND NOT EXISTS (
                            SELECT FROM nodes_runnerstats AS s WHERE s.node_id = a.node_id AND s.check_id = i.check_id
                        )
                    ) OR (
                        EXISTS (SELECT FROM nodes_runnerstats AS s WHERE s.node_id = a.node_id AND s.check_id = c.name)
                        AND NOT EXISTS (
                            SELECT FROM checks_assignment AS o JOIN checks_config AS x ON x.id = o.config_id
                            WHERE o.node_id = a.node_id AND x.name = c.name AND x.id <> c.id
                        )
                    )
                )),
            a.node_id IS NOT NULL AND coalesce(b.seen_at > h.since, false)
                AND greatest(h.since, (SELECT hearing_since FROM nodes_hearing)) < statement_timestamp() - %(deadline)s
        FROM checks_handover AS h
        LEFT JOIN checks_config AS c ON c.id = h.config_id
        LEFT JOIN checks_assignment AS a ON a.config_id = h.config_id
        LEFT JOIN nodes_node AS w ON w.id = CASE WHEN h.promise = 'strict' THEN h.source_id ELSE a.node_id END
        LEFT JOIN nodes_heartbeat AS b ON b.node_id = w.id
        LEFT JOIN nodes_runner AS r ON r.node_id = a.node_id AND h.promise <> 'strict'
        WHERE %(ids)s::bigint[] IS NULL OR h.config_id = ANY(%(ids)s::bigint[])
        ORDER BY h.config_id
    """

    def progress(self, config_ids: Collection[int] | None = None) -> list[Progress]:
        """Return how far the hand-overs of these configs are, or all."""
        values: dict[str, Any] = {"deadline": deadline(), "ids": None if config_ids is None else list(config_ids)}
        with connection.cursor() as cursor:
            cursor.execute(self._PROGRESS, values)
            return [Progress(*row) for row in cursor.fetchall()]


def deadline() -> timedelta:
    """Return how long a node that is heard may take to acknowledge a step: three polls, as long as silence is borne."""
    return conf.NODE_EXPIRATION_TIMEOUT


class Handover(models.Model):
    """A config that moved, and that its former node still has (overlap), or must have given up first (strict).

    The assignment names the new owner from the beginning. The former node is at most one, since the config is the key, and the
    node between is the last one. A row without an assignment is of a strict config that lost its node, and that no other gets
    before that node has stopped it.
    """

    # No constraints, so that an older version that knows no hand-overs can delete configs and nodes during an upgrade.
    config = models.OneToOneField(Config, models.DO_NOTHING, primary_key=True, db_constraint=False)
    source = models.ForeignKey(Node, models.DO_NOTHING, related_name="handovers", db_constraint=False)
    promise = models.CharField(max_length=8, choices=Promise)
    # Under overlap: the owner before this one, which had not acknowledged it and may run it, or the former node be about to end.
    between = models.ForeignKey(
        Node, models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    # The version of the node that is waited for, since its step: the owner's for an overlap, the former node's else.
    given = models.BigIntegerField()
    since = models.DateTimeField(db_default=Now())

    objects = HandoverQuerySet.as_manager()

    class Meta:
        indexes = [
            # GET configs, of each node.
            models.Index(fields=["between"], name="handover_by_between", condition=models.Q(between__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.config_id} from {self.source_id}, {self.promise}"
