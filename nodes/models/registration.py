"""The slow path of heartbeats, for many nodes at once: those that are new, are back, started anew or declare otherwise.

After an outage of a minute a whole cluster takes it, at the rate of heartbeats. So it takes no more statements for many
nodes than for one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from django.db import connection, models, transaction
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.dispatch import Signal

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called
from nodes.models.heartbeats import EXTRA_HEARTBEAT, Beat, Report, array
from nodes.names import likeness

log = structlog.get_logger()

# Nodes appeared or returned. Sent once inside the transaction that registers them, with their `names`.
node_arrived = Signal()
# Nodes say otherwise than before what they may run, or that they leave. Sent once inside the transaction, with `names`.
node_changed = Signal()

# How long a node that said that it leaves may still report that it never had a config, without having started anew.
FAREWELL_TIME = timedelta(seconds=20)
# A node that was away so often in this time comes and goes.
FLAPPING_TIMES, FLAPPING_SPAN = 2, timedelta(minutes=10)
# Of the names that a new one looks like, so many are told.
_ALIKE = 3


class _Arrival(NamedTuple):
    """A node that was registered. is_known: it was not lost, somebody else registered it just before.

    is_ruled: rules gave it something when it was here before. is_alike: its name looks like that of another known node.
    """

    id: int
    name: str
    version: int
    declared: str
    declared_before: str
    is_new: bool
    is_ruled: bool
    is_known: bool
    is_alike: bool
    has_rules: bool
    warmup: bool


class RegistrationQuerySet(models.QuerySet["nodestore.Node"]):
    def absent(self, names: Collection[str]) -> tuple[set[str], set[str]]:
        """Of these names those that nobody reported with before, and those of nodes that are lost."""
        with connection.cursor() as cursor:
            # Not the ORM, which takes as long to make the statement as the database takes for it.
            cursor.execute(
                "SELECT n.name, h.node_id FROM nodes_node AS n LEFT JOIN nodes_heartbeat AS h ON h.node_id = n.id"
                " WHERE n.name = ANY(%s::text[])",
                [array(names)],
            )
            found = dict(cursor.fetchall())
        return set(names) - found.keys(), {name for name, heartbeat in found.items() if heartbeat is None}

    # One statement for all, in which nothing waits in a circle. Of rows that are there, none is waited for when others are
    # held (SKIP LOCKED), for they are locked in the order of the key elsewhere. Names that are not there are inserted in
    # their order, so that two of these wait for each other in one direction; what somebody else inserted meanwhile is his.
    _REGISTER = """
        WITH told AS MATERIALIZED (
            SELECT * FROM unnest(%s::text[], %s::bigint[], %s::smallint[], %s::inet[], %s::text[], %s::bigint[])
                AS t (name, version, node_type, client_ip, declared, likeness)
        ), lost AS MATERIALIZED (
            SELECT n.id, n.name, n.declared AS declared_before
            FROM nodes_node AS n JOIN told ON told.name = n.name
            WHERE NOT EXISTS (SELECT FROM nodes_heartbeat AS h WHERE h.node_id = n.id)
            ORDER BY n.id FOR NO KEY UPDATE OF n {skip_locked}
        ), back AS (
            UPDATE nodes_node AS n
            SET lost_at = NULL, leaving = false, kept_until = NULL, likeness = t.likeness,
                declared = CASE WHEN t.version = {extra} THEN n.declared ELSE t.declared END
            FROM lost JOIN told AS t ON t.name = lost.name
            WHERE n.id = lost.id
            RETURNING n.id, n.name, n.config_version, n.declared, lost.declared_before, false AS is_new,
                n.labels <> '{{}}' OR n.weight <> 1 OR n.max_configs IS NOT NULL AS is_ruled
        ), fresh AS (
            INSERT INTO nodes_node (name, labels, likeness, declared)
            SELECT t.name, '{{}}', t.likeness, CASE WHEN t.version = {extra} THEN '' ELSE t.declared END
            FROM told AS t WHERE NOT EXISTS (SELECT FROM nodes_node AS n WHERE n.name = t.name)
            ORDER BY t.name
            ON CONFLICT (name) DO NOTHING
            RETURNING id, name, config_version, declared, '' AS declared_before, true AS is_new, false AS is_ruled
        ), came AS (
            SELECT * FROM back UNION ALL SELECT * FROM fresh
        ), beat AS (
            INSERT INTO nodes_heartbeat AS h (node_id, acknowledged, node_type, client_ip)
            SELECT came.id, greatest(t.version, 0), t.node_type, t.client_ip
            FROM came JOIN told AS t ON t.name = came.name
            ORDER BY came.id
            ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at, acknowledged = excluded.acknowledged,
                node_type = excluded.node_type, client_ip = excluded.client_ip
            RETURNING h.node_id, xmax <> 0 AS is_known
        ), noted AS (
            INSERT INTO nodes_nodeevent (node_name, kind, cause, time)
            SELECT came.name, CASE WHEN came.is_new THEN '{registered}' ELSE '{back}' END, '', statement_timestamp()
            FROM came JOIN beat ON beat.node_id = came.id
            WHERE NOT beat.is_known ORDER BY came.id
        )
        SELECT came.*, beat.is_known,
            EXISTS (
                SELECT FROM nodes_node AS n JOIN nodes_heartbeat AS h ON h.node_id = n.id
                WHERE n.likeness = t.likeness AND n.name <> t.name
            ),
            (SELECT EXISTS (SELECT FROM nodes_noderule)), (SELECT warmup FROM nodes_hearing)
        FROM came JOIN beat ON beat.node_id = came.id JOIN told AS t ON t.name = came.name
        ORDER BY came.id
    """

    @transaction.atomic
    def _register(self, reports: Mapping[str, Report], *, wait: bool = False) -> dict[str, Beat]:
        """Insert or revive these nodes: {name: beat}, without those that somebody else registers now, or that are known.

        wait: for a row that is locked. For a single report only, since several could wait in a circle.
        """
        columns = zip(
            *(
                (r.name, r.last_change, r.node_type, r.client_ip or None, r.declared, likeness(r.name))
                for r in reports.values()
            ),
            strict=True,
        )
        kinds = nodestore.NodeEvent.Kind
        statement = self._REGISTER.format(
            skip_locked="" if wait else "SKIP LOCKED",
            extra=EXTRA_HEARTBEAT,
            registered=kinds.REGISTERED.value,
            back=kinds.BACK.value,
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [array(column) for column in columns])
            arrivals = [_Arrival(*row) for row in cursor.fetchall()]
        self._welcome([arrival for arrival in arrivals if not arrival.is_known])
        self._note_declared({one.name: one.declared for one in arrivals if one.declared != one.declared_before})
        # What it declares is written already, and it neither started anew nor said goodbye since then.
        return {one.name: Beat(one.id, one.version, one.warmup, one.declared, False, 0) for one in arrivals}

    def _welcome(self, arrivals: Sequence[_Arrival]) -> None:
        if not arrivals:
            return
        ruled = [one.id for one in arrivals if one.has_rules or one.is_ruled]
        if ruled:
            nodestore.NodeRule.objects.apply(nodestore.Node.objects.filter(pk__in=ruled))
        self._distrust_if_flapping([one.name for one in arrivals if not one.is_new])
        self._note_lookalikes(
            {one.name: likeness(one.name) for one in arrivals}, [one.name for one in arrivals if one.is_alike]
        )
        node_arrived.send(sender=self.model, names=[one.name for one in arrivals])

    def _note_lookalikes(self, arrived: Mapping[str, int], alike_before: Collection[str]) -> None:
        """Note which of these nodes are called as others that live, but for what the eye passes over.

        arrived: their likenesses. alike_before: those that are like others than these.
        """
        shared = {number for number, times in Counter(arrived.values()).items() if times > 1}
        numbers = {name: number for name, number in arrived.items() if number in shared or name in alike_before}
        if not numbers:
            return
        alike: dict[int, list[str]] = defaultdict(list)
        living = nodestore.Node.objects.known().filter(likeness__in=set(numbers.values())).order_by("name")
        for number, name in living.values_list("likeness", "name"):
            alike[number].append(name)
        others = {name: [one for one in alike[number] if one != name] for name, number in numbers.items()}
        causes = {name: ", ".join(found[:_ALIKE]) for name, found in others.items() if found}
        if causes:
            nodestore.NodeEvent.objects.note_each(nodestore.NodeEvent.Kind.LOOKS_ALIKE, causes)
            log.warning("node_names_look_alike", names=list(causes.items())[:_ALIKE], number=len(causes))

    def _distrust_if_flapping(self, names: Collection[str]) -> None:
        """Give nodes that come and go nothing new for a while."""
        if not names:
            return
        outages = nodestore.NodeEvent.objects.outages(FLAPPING_SPAN).filter(node_name__in=names).order_by()
        often = outages.values("node_name").annotate(times=Count("pk")).filter(times__gte=FLAPPING_TIMES)
        flapping = list(often.values_list("node_name", flat=True))
        if flapping:
            self.filter(name__in=flapping).update(not_before=Now() + conf.NODE_EXPIRATION_TIMEOUT)
            nodestore.NodeEvent.objects.note(flapping, nodestore.NodeEvent.Kind.FLAPPING)

    @transaction.atomic
    def _note_restarts(self, beats: Mapping[str, Beat]) -> None:
        """Nodes started anew: what they said before is over. One that does so again and again is not trusted for a while."""
        events, kinds = nodestore.NodeEvent.objects, nodestore.NodeEvent.Kind
        virgins = [name for name, beat in beats.items() if beat.config_version == 0]
        leaving = events.filter(node_name__in=virgins, kind=kinds.LEAVING, time__gte=ago(FAREWELL_TIME))
        staying = set(leaving.values_list("node_name", flat=True)) if virgins else set()
        # In the order of the key, as every change of the map locks them.
        locked = self.filter(name__in=beats.keys() - staying).order_by("pk").select_for_update(no_key=True)
        said = dict(locked.annotate(said=Q(leaving=True) | Q(kept_until__gte=Now())).values_list("name", "said"))
        self.filter(name__in=said).update(leaving=False, kept_until=None)
        announced = nodestore.NodeEvent.ANNOUNCED
        events.note_each(kinds.RESTARTED, {name: announced if word else "" for name, word in said.items()})
        self._distrust_if_flapping(said.keys())
        if said:
            node_arrived.send(sender=self.model, names=list(said))

    @transaction.atomic
    def _note_declarations(self, declared: Mapping[str, str]) -> None:
        """Write what nodes declare, and note of each whether that is something else than before."""
        locked = self.filter(name__in=declared).order_by("pk").select_for_update(no_key=True)
        before: Any = locked.values_list("pk", "name", "declared")
        changed = [
            self.model(pk=pk, name=name, declared=declared[name]) for pk, name, was in before if was != declared[name]
        ]
        self.bulk_update(changed, ["declared"])
        self._note_declared({node.name: node.declared for node in changed})

    def _note_declared(self, declared: Mapping[str, str]) -> None:
        if declared:
            nodestore.NodeEvent.objects.note_each(nodestore.NodeEvent.Kind.DECLARED, declared)
            node_changed.send(sender=self.model, names=list(declared))
