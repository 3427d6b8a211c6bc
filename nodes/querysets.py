"""nodeStore: who is alive, who is silent, who expired, who may be given work, and what happened to whom."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, models, transaction
from django.db.models import Case, DurationField, Exists, ExpressionWrapper, F, Q, Value, When
from django.db.models.functions import Now
from django.dispatch import Signal

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database import batches
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called
from nodes.heartbeats import EXTRA_HEARTBEAT, Beat, Report

log = structlog.get_logger()

# A node appeared or returned. Sent inside the transaction that registers it, with `name`.
node_arrived = Signal()
# A node says otherwise than before what it may run, or that it leaves. Sent inside the transaction, with `name`.
node_changed = Signal()

# How long a node that said that it restarts keeps what it has.
RESTART_TIME = timedelta(seconds=60)
# How long a node that said that it leaves may still report that it never had a config, without having started anew.
FAREWELL_TIME = timedelta(seconds=20)
# Who is uncordoned may be given work, whatever it said before.
READMITTED = {"leaving": False, "kept_until": None}
# A node that was away so often in this time comes and goes.
FLAPPING_TIMES, FLAPPING_SPAN = 2, timedelta(minutes=10)
# So many timeouts. Nodes that all reported just before a cut of 40 s report again up to 50 s after its beginning.
BRAKE_HOLDS = 1.5
# Nodes that rules change in one transaction.
RULED_AT_ONCE = 1000
# What goes on is said again.
SAID_AGAIN_AFTER = timedelta(minutes=10)


class UnknownNode(LookupError):
    """No such node reports to us."""


class NodeQuerySet(models.QuerySet["nodestore.Node"]):
    def known(self) -> NodeQuerySet:
        """Nodes that are not lost."""
        return self.filter(heartbeat__isnull=False)

    def lost(self) -> NodeQuerySet:
        return self.filter(heartbeat__isnull=True)

    def silent(self) -> NodeQuerySet:
        """Known nodes without a heartbeat for half the expiration timeout."""
        return self.filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def alive(self) -> NodeQuerySet:
        """Known nodes heard within the timeout; all known ones within it after we were deaf."""
        heard = Q(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT))
        return self.known().filter(heard | Exists(nodestore.Hearing.objects.deaf_lately()))

    def accepting(self) -> NodeQuerySet:
        """Nodes that may be given work: neither cordoned nor saying goodbye, and heard within half the timeout, or all known
        in the first half after we were deaf.

        Of nodes that die together some expire first; their work must not go to those that are about to.
        """
        heard = Q(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
        listening = self.known().filter(heard | Exists(nodestore.Hearing.objects.deaf_lately(1 / 2)))
        return listening.filter(Q(kept_until=None) | Q(kept_until__lt=Now()), schedulable=True, leaving=False)

    def steady(self) -> NodeQuerySet:
        """Without those that come and go."""
        return self.filter(Q(not_before=None) | Q(not_before__lt=Now()))

    def expected(self) -> NodeQuerySet:
        """Known nodes whose silence means something: not those that said goodbye."""
        return self.known().filter(Q(kept_until=None) | Q(kept_until__lt=Now()), leaving=False)

    def with_state(self) -> NodeQuerySet:
        """Each with its `state` (alive, silent or lost), `silence`, how long ago it was last heard, and its `intake`: open, or
        why it gets nothing new (draining, cordoned, leaving, restarting or flapping).
        """
        silent = When(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2), then=Value("silent"))
        lost = When(heartbeat__isnull=True, then=Value("lost"))
        silence = ExpressionWrapper(Now() - F("heartbeat__seen_at"), DurationField())
        refusals = {
            "draining": Q(draining=True),
            "cordoned": Q(schedulable=False),
            "leaving": Q(leaving=True),
            "restarting": Q(kept_until__gte=Now()),
            "flapping": Q(not_before__gte=Now()),
        }
        intake = Case(*(When(why, then=Value(word)) for word, why in refusals.items()), default=Value("open"))
        return self.annotate(state=Case(lost, silent, default=Value("alive")), silence=silence, intake=intake)

    def heartbeat(
        self, name: str, *, last_change: int, node_type: int = 0, client_ip: str | None = None, declared: str = ""
    ) -> bool:
        """Note that the node lives, and say whether it is up to date."""
        report = Report(name, last_change, node_type, client_ip, declared)
        beat = nodestore.Heartbeat.objects.beat(name, last_change, node_type, client_ip)
        return self._is_up_to_date(report, self._register(report) if beat is None else beat)

    def heartbeats(self, reports: Sequence[Report]) -> list[bool | None]:
        """Note in one statement that these nodes live, and say of each whether it is up to date.

        None: its heartbeat must be told alone. It is unknown or lost, or its row is locked, or it is here twice.
        """
        told = {report.name: report for report in reports}
        beats = nodestore.Heartbeat.objects.beat_together(list(told.values()))
        return [
            self._is_up_to_date(report, beats[report.name])
            if told[report.name] is report and report.name in beats
            else None
            for report in reports
        ]

    def _is_up_to_date(self, report: Report, beat: Beat) -> bool:
        if report.last_change == 0 and (beat.acknowledged_before > 0 or beat.said_goodbye):
            self._note_restart(report.name, beat)
        if report.last_change != EXTRA_HEARTBEAT and report.declared != beat.declared:
            self._note_declaration(report.name, report.declared)
        # A report of 0 is a fresh start's, and a node may start where it was before.
        if beat.rival and report.last_change != 0:
            nodestore.NodeEvent.objects.note_addresses(report.name, {str(report.client_ip), beat.rival})
        return beat.warmup or report.last_change in (EXTRA_HEARTBEAT, beat.config_version)

    @transaction.atomic
    def _note_restart(self, name: str, beat: Beat) -> None:
        """A node started anew: what it said before is over. One that does so again and again is not trusted for a while."""
        events = nodestore.NodeEvent.objects
        is_virgin = beat.config_version == 0
        if is_virgin and events.noted(name, nodestore.NodeEvent.Kind.LEAVING, FAREWELL_TIME):
            return
        announced = self.filter(Q(leaving=True) | Q(kept_until__gte=Now()), name=name).exists()
        self.filter(name=name).update(leaving=False, kept_until=None)
        events.note([name], nodestore.NodeEvent.Kind.RESTARTED, nodestore.NodeEvent.ANNOUNCED if announced else "")
        self._distrust_if_flapping(name)
        node_arrived.send(sender=self.model, name=name)

    def _distrust_if_flapping(self, name: str) -> None:
        if nodestore.NodeEvent.objects.outages(FLAPPING_SPAN).filter(node_name=name).count() >= FLAPPING_TIMES:
            self.filter(name=name).update(not_before=Now() + conf.NODE_EXPIRATION_TIMEOUT)
            nodestore.NodeEvent.objects.note([name], nodestore.NodeEvent.Kind.FLAPPING)

    @transaction.atomic
    def _note_declaration(self, name: str, declared: str) -> None:
        if self.filter(name=name).exclude(declared=declared).update(declared=declared):
            nodestore.NodeEvent.objects.note([name], nodestore.NodeEvent.Kind.DECLARED, declared)
            node_changed.send(sender=self.model, name=name)

    @transaction.atomic
    def goodbye(self, name: str, kind: str) -> None:
        """A node says that it is `leaving` or `restarting`. Who leaves has said the last word. Raises UnknownNode."""
        node = self.known().filter(name=name)
        if not node.exists():
            raise UnknownNode(f"node {name} is unknown")
        staying = node.filter(leaving=False)
        if kind == nodestore.NodeEvent.Kind.LEAVING:
            changed = staying.update(leaving=True, kept_until=None)
        else:
            changed = staying.exclude(kept_until__gte=Now()).update(kept_until=Now() + RESTART_TIME)
        if changed:
            nodestore.NodeEvent.objects.note([name], kind)
            node_changed.send(sender=self.model, name=name)

    @transaction.atomic
    def _register(self, report: Report) -> Beat:
        """Insert or revive the node. The upsert locks its row first, as expiry does, so that the two can't interleave."""
        with connection.cursor() as cursor:
            # Not the ORM: update_conflicts can't say whether it inserted or revived.
            cursor.execute(
                "INSERT INTO nodes_node (name, labels) VALUES (%s, '{}')"
                " ON CONFLICT (name) DO UPDATE SET lost_at = NULL, leaving = false, kept_until = NULL"
                " RETURNING id, config_version, declared, (xmax = 0) AS inserted",
                (report.name,),
            )
            node_id, version, declared, inserted = cursor.fetchone()
        values = {
            "acknowledged": max(report.last_change, 0),
            "node_type": report.node_type,
            "client_ip": report.client_ip,
            "seen_at": Now(),
        }
        _, arrived = nodestore.Heartbeat.objects.update_or_create(node_id=node_id, defaults=values)
        if arrived:
            self._welcome(node_id, report.name, is_new=inserted)
        if report.last_change != EXTRA_HEARTBEAT:
            # In this transaction: nobody may believe that it runs everything.
            self._note_declaration(report.name, report.declared)
            declared = report.declared
        return Beat(version, nodestore.Hearing.objects.get().warmup, declared, False, 0)

    def _welcome(self, node_id: int, name: str, *, is_new: bool) -> None:
        kind = nodestore.NodeEvent.Kind.REGISTERED if is_new else nodestore.NodeEvent.Kind.BACK
        nodestore.NodeEvent.objects.note([name], kind)
        nodestore.NodeRule.objects.apply(self.filter(pk=node_id))
        if not is_new:
            self._distrust_if_flapping(name)
        node_arrived.send(sender=self.model, name=name)

    def cordon(self, *, schedulable: bool = False, draining: bool = False, actor: str = "") -> int:
        """Stop (or, with schedulable, resume) giving these nodes new work. Returns how many changed.

        draining: what they have moves away too, bit by bit, in the passes that follow.
        """
        kinds = nodestore.NodeEvent.Kind
        kind = kinds.UNCORDONED if schedulable else kinds.DRAINING if draining else kinds.CORDONED
        with transaction.atomic():
            wanted = {"schedulable": schedulable, "draining": draining} | (READMITTED if schedulable else {})
            unlike = self.exclude(**wanted)
            names = list(unlike.order_by("pk").select_for_update(no_key=True).values_list("name", flat=True))
            self.model.objects.filter(name__in=names).update(**wanted)
            nodestore.NodeEvent.objects.note(names, kind, cause=actor)
            for name in names if schedulable else ():
                node_arrived.send(sender=self.model, name=name)
        return len(names)

    def expired(self, *, force: bool = False) -> NodeQuerySet:
        """Nodes silent for longer than the timeout, unless we were deaf, the brake is on, or no other could take the work.

        force: silent for longer than the timeout, whatever the rest says.
        """
        late = self.filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT))
        if force:
            return late
        is_deaf = Q(hearing_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT))
        is_braked = Q(braked_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT * BRAKE_HOLDS))
        guards = nodestore.Hearing.objects.filter(is_deaf | is_braked)
        return late.exclude(kept_until__gte=Now()).filter(~Exists(guards), Exists(self.model.objects.accepting()))

    def expire(self, *, force: bool = False) -> dict[int, str]:
        """Lose every node that expired: {id: name}. Only the dispatcher calls it, since their configs must go too."""
        # Nodes before heartbeats, in the order of the key, as registration locks them.
        locked = self.expired(force=force).order_by("pk").select_for_update(no_key=True, of=("self",))
        gone = nodestore.Heartbeat.objects.delete_silent([node.pk for node in locked], conf.NODE_EXPIRATION_TIMEOUT)
        self.filter(pk__in=gone).update(lost_at=Now())
        self.bump_versions(gone)
        lost = self.filter(pk__in=gone)
        event = nodestore.NodeEvent
        for leaving, cause in ((False, ""), (True, event.ANNOUNCED)):
            event.objects.note(lost.filter(leaving=leaving).values_list("name", flat=True), event.Kind.EXPIRED, cause)
        return dict(lost.values_list("pk", "name"))

    def bump_versions(self, ids: Collection[int]) -> None:
        """Give these nodes a config version that was never used, in the transaction of the change that it stands for."""
        if not ids:
            return
        with connection.cursor() as cursor:
            # Not the ORM: it has no expression for nanoseconds of the database's clock.
            cursor.execute(
                "UPDATE nodes_node SET config_version ="
                " greatest(config_version + 1, (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint)"
                " WHERE id IN (SELECT id FROM nodes_node WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)",
                (list(ids),),
            )

    def forget(self, most: float = batches.MOST) -> int:
        """Delete those that are lost. Returns how many."""
        lost = self.lost().filter(assignments__isnull=True)
        return batches.delete(lost.order_by("pk"), most=most, cascades=True)

    def prune(self, most: float = batches.MOST) -> int:
        """Forget nodes that have been lost for longer than the retention. Returns how many."""
        return self.filter(lost_at__lt=ago(conf.LOST_NODE_RETENTION)).forget(most)


class NodeRuleQuerySet(models.QuerySet["nodestore.NodeRule"]):
    def apply(self, nodes: NodeQuerySet | None = None) -> int:
        """Give nodes (all that are known, unless given) what the rules say of them, later rules last. Returns how many.

        All of them in steps, each committed: who changes the map waits for the nodes that we lock. Raises RuntimeError in
        a transaction then.
        """
        if nodes is not None:
            return self._apply(nodes)
        known = nodestore.Node.objects.known()
        ids = [node.pk for node in self._disobeying(known)]
        changed = 0
        for start in range(0, len(ids), RULED_AT_ONCE):
            with transaction.atomic(durable=True):
                changed += self._apply(known.filter(pk__in=ids[start : start + RULED_AT_ONCE]))
        return changed

    # Not the ORM: its bulk_update takes a branch of a CASE for each.
    _OBEY = """
        UPDATE nodes_node AS n SET labels = new.labels::jsonb, weight = new.weight, max_configs = new.max_configs
        FROM unnest(%s::bigint[], %s::text[], %s::float8[], %s::integer[]) AS new (id, labels, weight, max_configs)
        WHERE n.id = new.id
    """

    @transaction.atomic
    def _apply(self, nodes: NodeQuerySet) -> int:
        # In the order of the key, as every change of the map locks them.
        changed = self._disobeying(nodes.order_by("pk").select_for_update(no_key=True, of=("self",)))
        if changed:
            columns = zip(
                *((node.pk, json.dumps(node.labels), node.weight, node.max_configs) for node in changed), strict=True
            )
            with connection.cursor() as cursor:
                cursor.execute(self._OBEY, [list(column) for column in columns])
        return len(changed)

    def _disobeying(self, nodes: NodeQuerySet) -> list[nodestore.Node]:
        """Of these nodes those that the rules change, as they should be."""
        rules = list(self.order_by("pk"))
        changed = []
        for node in nodes.select_related("heartbeat"):
            beat = node.heartbeat
            mine = [rule for rule in rules if rule.covers(node.name, beat.client_ip, beat.node_type)]
            if node.obey(mine):
                changed.append(node)
        return changed


class NodeEventQuerySet(models.QuerySet["nodestore.NodeEvent"]):
    def outages(self, span: timedelta) -> NodeEventQuerySet:
        """Nodes that were lost, or started anew, without a word in that time."""
        kinds = (self.model.Kind.EXPIRED, self.model.Kind.RESTARTED)
        return self.filter(kind__in=kinds, time__gte=ago(span)).exclude(cause=self.model.ANNOUNCED)

    def noted(self, name: str, kind: str, span: timedelta) -> bool:
        """Whether that happened to the node in that time."""
        return self.filter(node_name=name, kind=kind, time__gte=ago(span)).exists()

    def note(self, names: Collection[str] | Any, kind: str, cause: str = "") -> None:
        self.bulk_create([self.model(node_name=name, kind=kind, cause=cause, time=Now()) for name in names])

    def note_silent(self) -> list[str]:
        """Note each node that fell silent since its last heartbeat and was not noted yet. Returns their names."""
        noted = self.filter(
            node_name=models.OuterRef("name"),
            kind=self.model.Kind.SILENT,
            time__gte=models.OuterRef("heartbeat__seen_at"),
        )
        silent = nodestore.Node.objects.expected().silent()
        names = list(silent.exclude(Exists(noted)).values_list("name", flat=True))
        self.note(names, self.model.Kind.SILENT)
        return names

    def note_addresses(self, name: str, addresses: Collection[str]) -> None:
        """Note, once in a while, that a node's reports come from these addresses in turn: they are two of one name."""
        kind = self.model.Kind.TWO_ADDRESSES
        if not self.noted(name, kind, SAID_AGAIN_AFTER):
            self.note([name], kind, " and ".join(sorted(addresses)))
            log.warning("node_at_two_addresses", node=name, addresses=sorted(addresses))

    def prune(self, before: datetime | Any, most: float = batches.MOST) -> int:
        return batches.delete(self.filter(time__lt=before).order_by("time"), most=most)
