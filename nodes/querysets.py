"""nodeStore: who is alive, who is silent, who expired, and the one write path of a heartbeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from django.db import connection, models, transaction
from django.db.models import Case, Count, DurationField, Exists, ExpressionWrapper, F, Min, Q, Value, When
from django.db.models.functions import Now
from django.dispatch import Signal

from clusteragent.lib import conf
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called

# A node appeared or returned. Sent inside the transaction that registers it, with `name`.
node_arrived = Signal()

log = structlog.get_logger()

# The version that an extra heartbeat names: it only says that the node lives.
EXTRA_HEARTBEAT = -1


class UnknownNode(LookupError):
    """No such node reports to us."""


class Report(NamedTuple):
    """What a node agent reports: a heartbeat."""

    name: str
    last_change: int
    node_type: int = 0
    client_ip: str | None = None


class Beat(NamedTuple):
    """What a heartbeat's statement answers: the node's config version, whether we warm up, what it named before."""

    config_version: int
    warmup: bool
    acknowledged_before: int


def ago(age: timedelta) -> Any:
    """The database's time, that long ago."""
    return Now() - age


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
        """Nodes that may be given work: schedulable, and heard within half the timeout, or all known after we were deaf.

        Of nodes that die together some expire first; their work must not go to those that are about to.
        """
        heard = Q(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
        return self.known().filter(heard | Exists(nodestore.Hearing.objects.deaf_lately()), schedulable=True)

    def with_state(self) -> NodeQuerySet:
        """Each with its `state` (alive, silent or lost) and `silence`, how long ago it was last heard."""
        silent = When(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2), then=Value("silent"))
        lost = When(heartbeat__isnull=True, then=Value("lost"))
        silence = ExpressionWrapper(Now() - F("heartbeat__seen_at"), DurationField())
        return self.annotate(state=Case(lost, silent, default=Value("alive")), silence=silence)

    def heartbeat(self, name: str, *, last_change: int, node_type: int = 0, client_ip: str | None = None) -> bool:
        """Note that the node lives, and say whether it is up to date."""
        beat = nodestore.Heartbeat.objects.beat(name, last_change, node_type, client_ip)
        if beat is None:
            beat = self._register(name, last_change, node_type, client_ip)
        return self._is_up_to_date(name, last_change, beat)

    def heartbeats(self, reports: Sequence[Report]) -> list[bool | None]:
        """Note in one statement that these nodes live, and say of each whether it is up to date.

        None: its heartbeat must be told alone. It is unknown or lost, or its row is locked, or it is here twice.
        """
        told = {report.name: report for report in reports}
        beats = nodestore.Heartbeat.objects.beat_together(list(told.values()))
        return [
            self._is_up_to_date(report.name, report.last_change, beats[report.name])
            if told[report.name] is report and report.name in beats
            else None
            for report in reports
        ]

    def _is_up_to_date(self, name: str, last_change: int, beat: Beat) -> bool:
        if last_change == 0 and beat.acknowledged_before > 0:
            nodestore.NodeEvent.objects.create(node_name=name, kind=nodestore.NodeEvent.Kind.RESTARTED)
        return beat.warmup or last_change in (EXTRA_HEARTBEAT, beat.config_version)

    @transaction.atomic
    def _register(self, name: str, last_change: int, node_type: int, client_ip: str | None) -> Beat:
        """Insert or revive the node. The upsert locks its row first, as expiry does, so that the two can't interleave."""
        with connection.cursor() as cursor:
            # Not the ORM: update_conflicts can't say whether it inserted or revived.
            cursor.execute(
                "INSERT INTO nodes_node (name, labels) VALUES (%s, '{}')"
                " ON CONFLICT (name) DO UPDATE SET lost_at = NULL"
                " RETURNING id, config_version, (xmax = 0) AS inserted",
                (name,),
            )
            node_id, version, inserted = cursor.fetchone()
        values = {"acknowledged": max(last_change, 0), "node_type": node_type, "client_ip": client_ip, "seen_at": Now()}
        _, arrived = nodestore.Heartbeat.objects.update_or_create(node_id=node_id, defaults=values)
        if arrived:
            kind = nodestore.NodeEvent.Kind.REGISTERED if inserted else nodestore.NodeEvent.Kind.BACK
            nodestore.NodeEvent.objects.create(node_name=name, kind=kind)
            node_arrived.send(sender=self.model, name=name)
        return Beat(version, nodestore.Hearing.objects.get().warmup, 0)

    def cordon(self, *, schedulable: bool = False, actor: str = "") -> int:
        """Stop (or, with schedulable, resume) giving these nodes new work. Returns how many changed."""
        kind = nodestore.NodeEvent.Kind.UNCORDONED if schedulable else nodestore.NodeEvent.Kind.CORDONED
        with transaction.atomic():
            changed = self.exclude(schedulable=schedulable).order_by("pk").select_for_update(no_key=True)
            names = list(changed.values_list("name", flat=True))
            self.model.objects.filter(name__in=names).update(schedulable=schedulable)
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
        recent = ago(conf.NODE_EXPIRATION_TIMEOUT)
        guards = nodestore.Hearing.objects.filter(Q(hearing_since__gte=recent) | Q(braked_since__gte=recent))
        return late.filter(~Exists(guards), Exists(self.model.objects.accepting()))

    def expire(self, *, force: bool = False) -> dict[int, str]:
        """Lose every node that expired: {id: name}. Only the dispatcher calls it, since their configs must go too."""
        # Nodes before heartbeats, in the order of the key, as registration locks them.
        locked = self.expired(force=force).order_by("pk").select_for_update(no_key=True, of=("self",))
        gone = nodestore.Heartbeat.objects.delete_silent([node.pk for node in locked], conf.NODE_EXPIRATION_TIMEOUT)
        self.filter(pk__in=gone).update(lost_at=Now())
        self.bump_versions(gone)
        names = dict(self.filter(pk__in=gone).values_list("pk", "name"))
        nodestore.NodeEvent.objects.note(names.values(), nodestore.NodeEvent.Kind.EXPIRED)
        return names

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

    def prune(self) -> int:
        """Forget nodes that have been lost for longer than the retention. Returns how many."""
        return self.lost().filter(lost_at__lt=ago(conf.LOST_NODE_RETENTION), assignments__isnull=True).delete()[0]


class HeartbeatQuerySet(models.QuerySet["nodestore.Heartbeat"]):
    # One statement: it must be cheap, and what it answers must be of one moment. Reading the row again in RETURNING
    # gives it as it was before. No row means unknown or lost.
    _BEAT = """
        UPDATE nodes_heartbeat AS h
        SET seen_at = statement_timestamp(),
            acknowledged = CASE WHEN %(version)s < 0 THEN h.acknowledged ELSE %(version)s END,
            node_type = %(node_type)s,
            client_ip = coalesce(%(client_ip)s::inet, h.client_ip)
        FROM nodes_node AS n
        WHERE n.name = %(name)s AND h.node_id = n.id
        RETURNING n.config_version,
            (SELECT warmup FROM nodes_hearing),
            CASE WHEN %(version)s = 0
                THEN (SELECT b.acknowledged FROM nodes_heartbeat AS b WHERE b.node_id = n.id) ELSE 0 END
    """

    def beat(self, name: str, last_change: int, node_type: int, client_ip: str | None) -> Beat | None:
        """Write the heartbeat. None when the node is unknown or lost."""
        values: dict[str, Any] = {
            "name": name,
            "version": last_change,
            "node_type": node_type,
            "client_ip": client_ip or None,
        }
        with connection.cursor() as cursor:
            cursor.execute(self._BEAT, values)
            row = cursor.fetchone()
        return Beat(*row) if row else None

    # It never waits for a row: one node that is being lost would hold up all others, and two of these could deadlock.
    # The names are selected, so that PostgreSQL doesn't count them and think that a plan for just as many would be better:
    # making it anew each time takes longer than the rest.
    _BEAT_TOGETHER = """
        WITH told AS (
            SELECT t.*, n.config_version, h.node_id, h.acknowledged
            FROM unnest((SELECT %s::text[]), %s::bigint[], %s::smallint[], %s::inet[])
                AS t (name, version, node_type, client_ip)
            JOIN nodes_node AS n ON n.name = t.name
            JOIN nodes_heartbeat AS h ON h.node_id = n.id
            FOR NO KEY UPDATE OF h SKIP LOCKED
        )
        UPDATE nodes_heartbeat AS h
        SET seen_at = statement_timestamp(),
            acknowledged = CASE WHEN t.version < 0 THEN h.acknowledged ELSE t.version END,
            node_type = t.node_type,
            client_ip = coalesce(t.client_ip, h.client_ip)
        FROM told AS t
        WHERE h.node_id = t.node_id
        RETURNING t.name, t.config_version, (SELECT warmup FROM nodes_hearing), t.acknowledged
    """

    def beat_together(self, reports: Sequence[Report]) -> dict[str, Beat]:
        """Write heartbeats of different nodes: {name: beat}, without those that are unknown, lost or locked."""
        with connection.cursor() as cursor:
            cursor.execute(self._BEAT_TOGETHER, [list(column) for column in zip(*reports, strict=True)])
            return {name: Beat(*beat) for name, *beat in cursor.fetchall()}

    def delete_silent(self, node_ids: Collection[int], timeout: timedelta) -> list[int]:
        """Delete these nodes' heartbeats that are older than the timeout, and return the nodes' ids.

        A DELETE waits for heartbeats in flight and looks at them again, so none is overlooked; one that comes later
        finds no row.
        """
        with connection.cursor() as cursor:
            # Not the ORM: its delete() can't return what it deleted.
            cursor.execute(
                "DELETE FROM nodes_heartbeat WHERE node_id = ANY(%s)"
                " AND seen_at < statement_timestamp() - %s * interval '1 second' RETURNING node_id",
                [list(node_ids), timeout.total_seconds()],
            )
            return [node_id for (node_id,) in cursor.fetchall()]

    def pull_back(self) -> int:
        """Bring heartbeats of the future, left by a clock that was set back, to now. Returns how many."""
        future = self.filter(seen_at__gt=Now())
        if not future.exists():
            return 0
        # First, else nodes first seen in the future would look like newcomers that replace the silent.
        nodestore.Node.objects.filter(first_seen__gt=Now()).update(first_seen=Now())
        return future.update(seen_at=Now())


class Silence(NamedTuple):
    """How many nodes are known, how many of them silent, and how many appeared since the first of those fell silent."""

    known: int
    silent: int
    newcomers: int

    def alarming(self) -> bool:
        """More than the brake's fraction and number of nodes are silent, beside those that newcomers replace one for one."""
        if not (conf.BRAKE_FRACTION and conf.BRAKE_NODES):
            return False
        missing = self.silent - self.newcomers
        return missing >= conf.BRAKE_NODES and missing > self.known * conf.BRAKE_FRACTION


class HearingManager(models.Manager["nodestore.Hearing"]):
    def deaf_lately(self) -> models.QuerySet[nodestore.Hearing]:
        """The row, if we began to hear less than a timeout ago: silence says nothing yet."""
        return self.filter(hearing_since__gte=ago(conf.NODE_EXPIRATION_TIMEOUT))

    def listen(self) -> None:
        """Decide whether silence counts (deaf, braked or hearing), and write it down."""
        nodestore.Heartbeat.objects.pull_back()
        hearing = self.annotate(now=Now()).get()
        before = {"hearing_since": hearing.hearing_since, "braked_since": hearing.braked_since}
        is_forgetful = not nodestore.Memory.objects.exists()
        hearing.judge(hearing.now, self.silence(), forgetful=is_forgetful)
        after = {"hearing_since": hearing.hearing_since, "braked_since": hearing.braked_since}
        # Compare and swap: a pass that was stopped between the two must not undo what a later one decided.
        if after != before and self.filter(**before).update(**after):
            _say(before["braked_since"], hearing)
            if is_forgetful:
                nodestore.Memory.objects.get_or_create(pk=1)

    def note_pass(self) -> None:
        """A pass is complete."""
        self.update(last_pass=Now())

    def warmed_up(self, *, sources_read: bool) -> bool:
        """Whether work may be given out. A new database waits from the first report and the first reading of its sources."""
        hearing = self.annotate(now=Now()).get()
        if hearing.warmup and not hearing.warm_until and sources_read and nodestore.Node.objects.exists():
            hearing.warm_until = hearing.now + conf.WARMUP_DURATION
            hearing.save(update_fields=["warm_until"])
        return not hearing.warmup or (hearing.warm_until is not None and hearing.warm_until <= hearing.now)

    def silence(self) -> Silence:
        """Count who is silent, by the database's clock."""
        silent = Q(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
        counts = nodestore.Node.objects.known().aggregate(
            known=Count("pk"), silent=Count("pk", filter=silent), since=Min("heartbeat__seen_at", filter=silent)
        )
        fresh = nodestore.Node.objects.known().exclude(silent)
        newcomers = fresh.filter(first_seen__gt=counts["since"]).count() if counts["since"] else 0
        return Silence(counts["known"], counts["silent"], newcomers)


def _say(braked_before: datetime | None, hearing: nodestore.Hearing) -> None:
    if not hearing.braked_since:
        log.warning("brake_off", hearing_since=hearing.hearing_since)
    elif hearing.braked_since == hearing.hearing_since:
        # Said at every pass for as long as nobody is heard.
        log.warning("deaf", hearing_since=hearing.hearing_since)
    elif not braked_before:
        log.warning("brake_on", braked_since=hearing.braked_since)


class NodeEventQuerySet(models.QuerySet["nodestore.NodeEvent"]):
    def note(self, names: Collection[str] | Any, kind: str, cause: str = "") -> None:
        self.bulk_create([self.model(node_name=name, kind=kind, cause=cause, time=Now()) for name in names])

    def note_silent(self) -> list[str]:
        """Note each node that fell silent since its last heartbeat and was not noted yet. Returns their names."""
        noted = self.filter(
            node_name=models.OuterRef("name"),
            kind=self.model.Kind.SILENT,
            time__gte=models.OuterRef("heartbeat__seen_at"),
        )
        names = list(nodestore.Node.objects.silent().exclude(Exists(noted)).values_list("name", flat=True))
        self.note(names, self.model.Kind.SILENT)
        return names

    def prune(self, before: datetime | Any) -> int:
        return self.filter(time__lt=before).delete()[0]
