"""clusterStore: the lock, what dangles, who runs what, and the ledger, with every SQL statement that the ORM can't say."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, models, transaction
from django.db.models import Case, Count, ExpressionWrapper, F, Func, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Now

from checks import display, lint
from checks import models as clusterstore  # its classes take their managers from here, so it is looked up when called
from checks.lint import Notice
from checks.orders import ORDERS
from checks.searching import called, containing, ids_of
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database import batches
from clusteragent.lib.database.listening import notify
from clusteragent.lib.database.rows import copy, rewrite
from clusteragent.lib.database.sweeps import sweep

CHANNEL = "clusteragent"
# Configs that are flagged in one statement.
FLAGGED_AT_ONCE = 1000


class Call(enum.StrEnum):
    """What may be asked of the leader: the payload of a notification."""

    PASS = enum.auto()
    SCAN = enum.auto()


class NotLeader(Exception):
    """The pass belongs to a term that is over."""


class ClusterStoreManager(models.Manager["clusterstore.ClusterStore"]):
    def lock(self, term: int | None = None) -> clusterstore.ClusterStore:
        """Lock the map until the transaction ends. Raises NotLeader when `term` is given and over.

        NO KEY UPDATE is the weakest mode that excludes itself: nothing but another change of the map waits for it.
        """
        store = self.select_for_update(no_key=True).annotate(now=Now()).get()  # type: ignore[no-redef]
        if term is not None and store.term != term:
            raise NotLeader(f"term {term} is over, the leader's is {store.term}")
        return store

    def wake(self, call: Call = Call.PASS) -> None:
        """Ask the leader for a pass now, or for a scan of the sources, when the transaction commits."""
        notify(CHANNEL, call)

    # These take the cursor of the session that holds the leader's lock: a session that lost it can't begin a term.
    def begin_term(self, cursor: Any, leader: str) -> int:
        """Begin a term whose number was never used, not even by one whose commit a failover lost, and return it."""
        cursor.execute(
            "UPDATE checks_clusterstore SET leader = %s,"
            " term = greatest(term + 1, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint) RETURNING term",
            (leader[:253],),
        )
        return int(cursor.fetchone()[0])

    def current_term(self, cursor: Any) -> int:
        """The term that changes of the map are compared with."""
        cursor.execute("SELECT term FROM checks_clusterstore")
        return int(cursor.fetchone()[0])

    def listen(self, cursor: Any) -> None:
        """Hear wake() from now on."""
        cursor.execute(f"LISTEN {CHANNEL}")


class Share(NamedTuple):
    """What a node agent is given: the version of its configs and what is stored of them, or why nothing is said now."""

    version: int
    configs: str
    unsure: str = ""


class ConfigQuerySet(models.QuerySet["clusterstore.Config"]):
    def dispatchable(self) -> ConfigQuerySet:
        """Configs that should have an owner: all but those of endpoint checks."""
        return self.filter(node_name="")

    def dangling(self) -> ConfigQuerySet:
        return self.filter(dangling_since__isnull=False)

    def containing(self, word: str, *, exact: bool = False) -> ConfigQuerySet:
        """The configs that are called so; when there is none, those with the word in a check's name or their YAML as shown."""
        if ids := called(self.model, word, exact=exact):
            return self.filter(pk__in=ids)
        named = clusterstore.Instance.objects.filter(display.is_ours("config__"))
        by_name = containing(named, "shown_name", word).values("config_id")
        return containing(self.filter(display.is_ours()), "text", word, models.Q(pk__in=by_name))

    def with_ids_or_like(
        self, ids: Iterable[int], contents: Iterable[str] = (), hashes: Iterable[str] = ()
    ) -> ConfigQuerySet:
        """Configs with these ids, with these contents, or with one of these hashes as digest or fast digest."""
        hashes = list(hashes)
        alike = models.Q(contents__in=list(contents)) | models.Q(digest__in=hashes) | models.Q(fast_digest__in=hashes)
        return self.filter(models.Q(pk__in=list(ids)) | alike)

    def lost_since(self, time: Any) -> ConfigQuerySet:
        """Dangling since then at the earliest, because their node expired or left."""
        return self.dangling().filter(former_node__isnull=False, dangling_since__gte=time)

    def settle(self, ids: Collection[int]) -> None:
        """Note that these have an owner again, or need none."""
        self.filter(pk__in=ids).update(dangling_since=None, unscheduled=False, former_node=None)

    def let_dangle(self, ids: Collection[int]) -> None:
        """Note that these should have an owner and have none."""
        self.filter(pk__in=ids, dangling_since=None).update(dangling_since=Now())

    def of_nodes_that_came_back(self) -> ConfigQuerySet:
        """Dangling, while who lost them is heard again."""
        return self.dangling().filter(former_node__heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def ids_of(self, names: Collection[str], *, exact: bool = True) -> list[int]:
        """The configs with these short IDs; exact: or digests or check IDs. Raises LookupError naming the first unknown."""
        return ids_of(self, names, exact=exact)

    def described(self, check: str | None = None) -> models.QuerySet[Any, Any]:
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
            origin=Subquery(
                origins.values(sent=Concat("source", Value(":"), "key", output_field=models.TextField()))[:1]
            ),
            check_ids=ArraySubquery(
                clusterstore.Instance.objects.filter(config=OuterRef("pk")).order_by("pk").values("check_id")
            ),
        )

    def flag_unscheduled(self) -> list[str]:
        """Flag what has been dangling for longer than the threshold. Returns the names of those newly flagged."""
        late = self.dangling().filter(unscheduled=False, dangling_since__lt=ago(conf.UNSCHEDULED_CHECK_THRESHOLD))
        flagged = dict(late.values_list("pk", "name"))
        # Bit by bit: whoever places one of them holds the store's lock while it waits for us.
        ids = list(flagged)
        for start in range(0, len(ids), FLAGGED_AT_ONCE):
            some = self.model.objects.filter(pk__in=ids[start : start + FLAGGED_AT_ONCE])
            some.dangling().update(unscheduled=True)
        return list(flagged.values())

    def remove(self, ids: Collection[int]) -> None:
        """Delete configs with all that belongs to them. Not delete(): it would fetch every row first."""
        for related in (clusterstore.Instance, clusterstore.Assignment, clusterstore.Origin):
            related.objects.filter(config_id__in=ids).delete()
        for orders in ORDERS:
            orders.objects.detach(ids)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM checks_config WHERE id = ANY(%s)", [list(ids)])

    # One statement: the version and the configs must be of the same moment. As text, since bytes travel as hex, which
    # takes twice the time. Without the hearing's row we warm up. The names are selected, so that PostgreSQL doesn't count
    # them and think that a plan for just as many would be better.
    _SHARES = """
        SELECT n.name, n.config_version,
            coalesce((
                SELECT convert_from(string_agg(c.wire, ',' ORDER BY c.id), 'UTF8')
                FROM checks_assignment AS a JOIN checks_config AS c ON c.id = a.config_id
                WHERE a.node_id = n.id
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                WHEN EXISTS (
                    SELECT FROM checks_config AS d WHERE d.dangling_since IS NOT NULL AND d.former_node_id = n.id
                )
                    THEN 'the node came back, and its configs are not dispatched again yet'
                ELSE ''
            END
        FROM unnest((SELECT %s::text[])) AS t (name)
        JOIN nodes_node AS n ON n.name = t.name JOIN nodes_heartbeat AS h ON h.node_id = n.id
    """

    def shares_of(self, names: Sequence[str]) -> list[Share | None]:
        """What these nodes run, in one statement. None for each that is unknown or lost."""
        with connection.cursor() as cursor:
            cursor.execute(self._SHARES, [list(set(names))])
            shares = {name: Share(*rest) for name, *rest in cursor.fetchall()}
        return [shares.get(name) for name in names]

    def share_of(self, name: str) -> Share | None:
        """What a node runs. None when the node is unknown or lost."""
        return self.shares_of([name])[0]

    _ENDPOINTS_SHARE = """
        SELECT 0,
            coalesce((
                SELECT convert_from(string_agg(wire, ',' ORDER BY id), 'UTF8')
                FROM checks_config
                WHERE node_name <> '' AND node_name = coalesce(%s, node_name)
            ), ''),
            CASE
                WHEN (SELECT warmup FROM nodes_hearing) IS NOT FALSE
                    THEN 'warming up: nothing is dispatched yet'
                ELSE ''
            END
    """

    def endpoints_share(self, name: str | None = None) -> Share:
        """The endpoint checks of a node, or of all."""
        with connection.cursor() as cursor:
            cursor.execute(self._ENDPOINTS_SHARE, [name])
            return Share(*cursor.fetchone())

    def rewrite(self, fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Give configs other bytes in place. Rows: the fields, the first of them `id`."""
        if rows:
            rewrite("checks_config", fields, rows, also=", changed = statement_timestamp()")


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

    def alone(self, source: str, keys: Collection[str]) -> set[str]:
        """Those of a source's keys whose config no other origin sends than these."""
        mine = self.filter(source=source, key__in=keys)
        others = self.filter(config__in=mine.values("config")).exclude(source=source, key__in=keys)
        return set(mine.exclude(config__in=others.values("config")).values_list("key", flat=True))

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

    def rewrite(self, rows: Sequence[Sequence[Any]]) -> None:
        """Store other texts of authors. Rows: id, text, its hash."""
        if rows:
            rewrite("checks_origin", ("id", "written", "written_hash"), rows)


class OriginManager(models.Manager["clusterstore.Origin"]):
    def get_queryset(self) -> models.QuerySet[clusterstore.Origin]:
        """The origins without their authors' texts, which are read one by one."""
        return super().get_queryset().defer("written")


class AssignmentQuerySet(models.QuerySet["clusterstore.Assignment"]):
    def counts(self) -> dict[int, int]:
        """How many configs each node has: {node's id: number}."""
        return dict(self.values_list("node_id").annotate(Count("pk")).order_by())

    def transfer(self, owners: Sequence[tuple[int, int | None]], reason: str) -> None:
        """Give configs that have an owner to another: (config's id, node's id)."""
        with connection.cursor() as cursor:
            # Not the ORM: its bulk_update takes a branch of a CASE for each.
            cursor.execute(
                "UPDATE checks_assignment AS a SET node_id = n.node_id, since = statement_timestamp(), reason = %s"
                " FROM unnest(%s::bigint[], %s::bigint[]) AS n (config_id, node_id) WHERE a.config_id = n.config_id",
                [reason, [config for config, _ in owners], [node for _, node in owners]],
            )

    # The moves, the dangling configs and the deletion must be of the very same rows, so one statement does them all.
    _TAKE_AWAY = """
        WITH gone AS (
            DELETE FROM checks_assignment WHERE config_id IN (
                SELECT config_id FROM checks_assignment WHERE node_id = ANY(%(nodes)s) ORDER BY config_id LIMIT %(most)s
            ) RETURNING config_id, node_id
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
        self, node_ids: Collection[int], *, most: int, reason: str, term: int, actor: str = ""
    ) -> list[clusterstore.Move]:
        """Let so much of what these nodes have dangle, write it to the ledger, and return the moves."""
        values = {"nodes": list(node_ids), "most": most, "reason": reason, "term": term, "actor": actor}
        return list(clusterstore.Move.objects.raw(self._TAKE_AWAY, values))


class SourceScanQuerySet(models.QuerySet["clusterstore.SourceScan"]):
    def note(self, source: clusterstore.Source) -> None:
        """Note that this replica scans the source now, and forget replicas whose scans no longer count."""
        self.filter(source=source, scanned_at__lt=ago(conf.REMOVAL_GRACE)).delete()
        self.update_or_create(source=source, replica=conf.REPLICA, defaults={"scanned_at": Now()})

    def of_others_lately(self, source: clusterstore.Source) -> set[str]:
        """The other replicas whose scans of the source still count."""
        lately = self.filter(source=source, scanned_at__gte=ago(conf.REMOVAL_GRACE))
        return set(lately.exclude(replica=conf.REPLICA).values_list("replica", flat=True))


class Suspect(NamedTuple):
    """A config, and the names of the nodes that died soon after they got it."""

    config_id: int
    nodes: list[str]


class MoveQuerySet(models.QuerySet["clusterstore.Move"]):
    _FIELDS = ("config_id", "digest", "name", "source_node", "to_node", "reason", "actor", "term", "time")

    def write(self, moves: Sequence[clusterstore.Move]) -> None:
        """Write moves to the ledger, in the transaction that makes them."""
        columns = attrgetter(*self._FIELDS)
        rows = ((*columns(move), json.dumps(move.why) if move.why else None) for move in moves)
        copy(self.model, (*self._FIELDS, "why"), rows)

    # A stay of a config on a node ends with its next move. Other bytes are another config, which may have been mended; and
    # what died before it was quarantined was held against it then.
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
                    SELECT FROM quarantined AS q WHERE q.cause = c.name || ' ' || c.digest AND q.time >= d.time
                )
        )
        SELECT id, array_agg(to_node::text ORDER BY to_node) FROM victim
        GROUP BY id HAVING count(*) >= %(victims)s ORDER BY id
    """

    def suspects(self, victims: int, span: timedelta, soon: timedelta) -> list[Suspect]:
        """Configs that so many nodes got in this time and died of, without a word, so soon after it."""
        values: dict[str, Any] = {"victims": victims, "span": span, "soon": soon}
        with sweep() as cursor:
            cursor.execute(self._SUSPECTS, values)
            return [Suspect(*row) for row in cursor.fetchall()]

    def last_of(self, config_ids: Collection[int]) -> dict[int, int]:
        """The last move of each of these configs that changed its owner: {config's id: move's id}."""
        changes = self.filter(config_id__in=config_ids).exclude(source_node=F("to_node"))
        last = changes.order_by("config_id", "-id").distinct("config_id")
        return dict(last.values_list("config_id", "pk"))

    def prune(self, before: datetime | Any, most: float = batches.MOST) -> int:
        return batches.delete(self.filter(time__lt=before).order_by("time"), most=most)


class SourceQuerySet(models.QuerySet["clusterstore.Source"]):
    def warn(self, name: str, keys: Collection[str], found: Sequence[Notice]) -> None:
        """Put these warnings in place of what a source without scans was told of these keys."""
        with transaction.atomic():
            # Two who write configs at once each take the other's warnings into account.
            row = self.select_for_update(no_key=True).filter(name=name).first()
            if row is None and found:
                row, _ = self.get_or_create(name=name, defaults={"read_at": Now()})
            if row is not None:
                others = [Notice(**one) for one in row.warnings if one["where"] not in keys]
                row.note_scan(read=True, warnings=lint.rows(sorted([*others, *found], key=lint.by_place)))

    def warnings_of(self, places: Collection[tuple[str, str]]) -> list[Notice]:
        """The warnings that sources have of these (source, key)."""
        rows = self.filter(name__in={source for source, _ in places}).values_list("name", "warnings")
        return [Notice(**one) for name, found in rows for one in found if (name, one["where"]) in places]

    def with_counts(self) -> SourceQuerySet:
        """Each with the numbers of its errors, warnings, passed-over files and held removals, and how long ago it was scanned
        and read."""
        numbers = {
            f"{field}_number": Func(F(field), function="jsonb_array_length", output_field=models.IntegerField())
            for field in ("errors", "warnings", "passed_over", "held_removals")
        }
        ages = {
            age: ExpressionWrapper(Now() - F(time), models.DurationField())
            for age, time in (("read_age", "read_at"), ("scan_age", "scanned_at"))
        }
        return self.annotate(**numbers, **ages).defer("errors", "warnings", "passed_over", "held_removals")
