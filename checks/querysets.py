"""clusterStore: the lock, what dangles, who runs what, and the ledger, with every SQL statement that the ORM can't say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, models
from django.db.models import Case, Count, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Now

from checks import models as clusterstore  # its classes take their managers from here, so it is looked up when called
from clusteragent.lib import conf
from nodes.querysets import ago

CHANNEL = "clusteragent"


class NotLeader(Exception):
    """The pass belongs to a term that is over."""


class ClusterStoreManager(models.Manager["clusterstore.ClusterStore"]):
    def lock(self, term: int | None = None) -> clusterstore.ClusterStore:
        """Lock the map until the transaction ends. Raises NotLeader when `term` is given and over.

        NO KEY UPDATE is the weakest mode that excludes itself: nothing but another change of the map waits for it.
        """
        store = self.select_for_update(no_key=True).annotate(now=Now()).get()
        if term is not None and store.term != term:
            raise NotLeader(f"term {term} is over, the leader's is {store.term}")
        return store

    def wake(self) -> None:
        """Ask the leader for a pass now, when the transaction commits."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def copy(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows with COPY, several times faster than bulk_create. Fields are attribute names of the model."""
    columns = ", ".join(connection.ops.quote_name(model._meta.get_field(name).column) for name in fields)
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)


def new_ids(model: type[models.Model], number: int) -> list[int]:
    """Take that many keys from the model's sequence, for rows that refer to each other before they are written."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            (model._meta.db_table, number),
        )
        return [key for (key,) in cursor.fetchall()]


class ConfigQuerySet(models.QuerySet["clusterstore.Config"]):
    def dispatchable(self) -> ConfigQuerySet:
        """Configs that should have an owner: all but those of endpoint checks."""
        return self.filter(node_name="")

    def dangling(self) -> ConfigQuerySet:
        return self.filter(dangling_since__isnull=False)

    def with_ids_or_digests(self, ids: Iterable[int], digests: Iterable[str]) -> ConfigQuerySet:
        return self.filter(models.Q(pk__in=list(ids)) | models.Q(digest__in=list(digests)))

    def lost_since(self, time: Any) -> ConfigQuerySet:
        """Dangling since then at the earliest, because their node expired or left."""
        return self.dangling().filter(former_node__isnull=False, dangling_since__gte=time)

    def settle(self, ids: Collection[int]) -> None:
        """Note that these have an owner again."""
        self.filter(pk__in=ids).update(dangling_since=None, unscheduled=False, former_node=None)

    def ids_of(self, names: Collection[str]) -> list[int]:
        """The configs with these digests or check IDs. Raises LookupError naming the first that is unknown."""
        found = dict(self.filter(digest__in=names).values_list("digest", "pk"))
        found |= dict(self.filter(instances__check_id__in=names).values_list("instances__check_id", "pk"))
        for name in names:
            if name not in found:
                raise LookupError(f"no config has the digest or check ID {name}")
        return list(found.values())

    def described(self, check: str | None = None) -> models.QuerySet[Any, dict[str, Any]]:
        """What people and programs want to know of each config, endpoint checks with the node that they belong to."""
        configs = self.filter(name=check) if check else self
        origins = clusterstore.Origin.objects.filter(config=OuterRef("pk")).order_by("source", "key")
        return configs.order_by("name", "pk").values(
            "digest",
            "dangling_since",
            check=F("name"),
            node=Case(When(node_name="", then=F("assignment__node__name")), default=F("node_name")),
            since=F("assignment__since"),
            reason=F("assignment__reason"),
            origin=Subquery(origins.values(sent=Concat("source", Value(":"), "key"))[:1]),
            check_ids=ArraySubquery(
                clusterstore.Instance.objects.filter(config=OuterRef("pk")).order_by("pk").values("check_id")
            ),
        )

    def flag_unscheduled(self) -> list[str]:
        """Flag what has been dangling for longer than the threshold. Returns the names of those newly flagged."""
        late = self.dangling().filter(unscheduled=False, dangling_since__lt=ago(conf.UNSCHEDULED_CHECK_THRESHOLD))
        flagged = dict(late.values_list("pk", "name"))
        self.model.objects.filter(pk__in=flagged).update(unscheduled=True)
        return list(flagged.values())

    def remove(self, ids: Collection[int]) -> None:
        """Delete configs with all that belongs to them. Not delete(): it would fetch every row first."""
        for related in (clusterstore.Instance, clusterstore.Assignment, clusterstore.Origin):
            related.objects.filter(config_id__in=ids)._raw_delete(self.db)
        self.model.objects.filter(pk__in=ids)._raw_delete(self.db)

    _REWRITE = """
        UPDATE checks_config AS c
        SET digest = n.digest, name = n.name, provider = n.provider, original = n.original, wire = n.wire,
            scrubbed = n.scrubbed, text = n.text, node_name = n.node_name, dangling_since = n.dangling_since,
            changed = statement_timestamp()
        FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::bytea[], %s::bytea[],
                    %s::text[], %s::text[], %s::timestamptz[])
            AS n (id, digest, name, provider, original, wire, scrubbed, text, node_name, dangling_since)
        WHERE c.id = n.id
    """

    def rewrite(self, rows: Sequence[Sequence[Any]]) -> None:
        """Give configs other bytes in place, in one statement. Rows: id, then the columns in the order of _REWRITE."""
        if rows:
            with connection.cursor() as cursor:
                cursor.execute(self._REWRITE, [list(column) for column in zip(*rows, strict=True)])


class OriginQuerySet(models.QuerySet["clusterstore.Origin"]):
    def keyed(self, keys: Collection[tuple[str, str]]) -> OriginQuerySet:
        """The origins with these (source, key)."""
        by_source: dict[str, list[str]] = {}
        for source, key in keys:
            by_source.setdefault(source, []).append(key)
        wanted = models.Q(pk__in=[])
        for source, names in by_source.items():
            wanted |= models.Q(source=source, key__in=names)
        return self.filter(wanted)

    def redirect(self, rows: Sequence[Sequence[Any]]) -> None:
        """Note what origins send now. Rows: id, config's id, fingerprint, replica that read it."""
        if rows:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE checks_origin AS o SET config_id = n.config_id, fingerprint = n.fingerprint,"
                    " scanned_by = n.scanned_by, scanned_at = statement_timestamp()"
                    " FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])"
                    " AS n (id, config_id, fingerprint, scanned_by) WHERE o.id = n.id",
                    [list(column) for column in zip(*rows, strict=True)],
                )


class AssignmentQuerySet(models.QuerySet["clusterstore.Assignment"]):
    def costs(self) -> dict[int, float]:
        """What each node has: {node's id: sum of the costs}. A config costs one."""
        return dict(self.values_list("node_id").annotate(Count("pk")).order_by())

    # The moves, the dangling configs and the deletion must be of the very same rows, so one statement does them all.
    _TAKE_AWAY = """
        WITH gone AS (
            DELETE FROM checks_assignment WHERE node_id = ANY(%(nodes)s) RETURNING config_id, node_id
        ), dangling AS (
            UPDATE checks_config AS c SET dangling_since = statement_timestamp(), former_node_id = gone.node_id
            FROM gone WHERE c.id = gone.config_id RETURNING c.id, c.digest, c.name, gone.node_id
        )
        INSERT INTO checks_move (config_id, digest, name, source_node, to_node, reason, actor, term, time)
        SELECT d.id, d.digest, d.name, n.name, '', %(reason)s, %(actor)s, %(term)s, statement_timestamp()
        FROM dangling AS d JOIN nodes_node AS n ON n.id = d.node_id
        ORDER BY d.id
        RETURNING *
    """

    def take_away(
        self, node_ids: Collection[int], *, reason: str, term: int, actor: str = ""
    ) -> list[clusterstore.Move]:
        """Let all that these nodes have dangle, write it to the ledger, and return the moves."""
        values = {"nodes": list(node_ids), "reason": reason, "term": term, "actor": actor}
        return list(clusterstore.Move.objects.raw(self._TAKE_AWAY, values))


class MoveQuerySet(models.QuerySet["clusterstore.Move"]):
    _FIELDS = ("config_id", "digest", "name", "source_node", "to_node", "reason", "actor", "term", "time")

    def write(self, moves: Sequence[clusterstore.Move]) -> None:
        """Write moves to the ledger, in the transaction that makes them."""
        copy(self.model, self._FIELDS, ([getattr(move, field) for field in self._FIELDS] for move in moves))

    def prune(self, before: datetime | Any) -> int:
        return self.filter(time__lt=before)._raw_delete(self.db)
