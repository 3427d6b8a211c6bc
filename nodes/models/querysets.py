"""nodeStore: who is alive, who is silent, who expired, who may be given work, and what happened to whom."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import connection, models, transaction
from django.db.models import (
    Case,
    Count,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Min,
    Q,
    Value,
    When,
)
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database import batches
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called
from nodes.models import hearing
from nodes.models.heartbeats import EXTRA_HEARTBEAT, Beat, Report, apart
from nodes.models.newcomers import TooManyNames, newcomers
from nodes.models.registration import RegistrationQuerySet, node_arrived, node_changed

log = structlog.get_logger()

# How long a node that said that it restarts keeps what it has.
RESTART_TIME = timedelta(seconds=60)
# Whose goodbye was void is not believed again for so long; nor is who said so many in that time.
BROKEN_WORD = timedelta(hours=1)
GOODBYES, GOODBYES_SPAN = 3, timedelta(minutes=10)
# Who is uncordoned may be given work, whatever it said before.
READMITTED = {"leaving": False, "kept_until": None}
# Lost nodes that a pruning leaves.
MOST_LOST = 50_000
# So many timeouts. Nodes that all reported just before a cut of 40 s report again up to 50 s after its beginning.
BRAKE_HOLDS = 1.5
# Nodes that rules change in one transaction.
RULED_AT_ONCE = 1000


class UnknownNode(LookupError):
    """No such node reports to us."""


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


class NodeQuerySet(RegistrationQuerySet):
    def known(self) -> NodeQuerySet:
        """Nodes that are not lost."""
        return self.filter(heartbeat__isnull=False)

    def lost(self) -> NodeQuerySet:
        return self.filter(heartbeat__isnull=True)

    def silent(self) -> NodeQuerySet:
        """Known nodes without a heartbeat for half the expiration timeout."""
        return self.filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))

    def with_signal(self) -> NodeQuerySet:
        """Each known node with its `intake`, and its `signal`: heard within half the timeout; `unsure`, in the first half after
        we were deaf; `silent`; or `overdue`, for longer than the timeout, which begins anew after we were deaf.
        """
        half, whole = (ago(conf.NODE_EXPIRATION_TIMEOUT * share) for share in (1 / 2, 1))
        deaf = nodestore.Hearing.objects.deaf_lately
        heard = When(heartbeat__seen_at__gte=half, then=Value("heard"))
        unsure = When(Exists(deaf(1 / 2)), then=Value("unsure"))
        silent = When(Q(heartbeat__seen_at__gte=whole) | Exists(deaf()), then=Value("silent"))
        found: NodeQuerySet = self.known().annotate(
            signal=Case(heard, unsure, silent, default=Value("overdue")), intake=intake()
        )
        return found

    def alive(self) -> NodeQuerySet:
        """Known nodes heard within the timeout; all known ones within it after we were deaf."""
        return self.with_signal().exclude(signal="overdue")

    def accepting(self) -> NodeQuerySet:
        """Nodes that may be given work: neither closed nor silent.

        Of nodes that die together some expire first; their work must not go to those that are about to.
        """
        return self.with_signal().filter(signal__in=("heard", "unsure"), intake__in=OPEN)

    def runners(self) -> NodeQuerySet:
        """Known cluster check runners; a node that names no type is one if it names its address."""
        kinds, unnamed = nodestore.NodeType, Q(heartbeat__client_ip__isnull=False)
        return self.known().filter(
            Q(heartbeat__node_type=kinds.RUNNER) | Q(unnamed, heartbeat__node_type=kinds.UNKNOWN)
        )

    def expected(self) -> NodeQuerySet:
        """Known nodes whose silence means something: not those that said goodbye."""
        return self.known().filter(Q(kept_until=None) | Q(kept_until__lt=Now()), leaving=False)

    def farewells(self, span: timedelta) -> tuple[int, datetime | None]:
        """How many known nodes said goodbye in that time and did not start anew, and when the first of them did."""
        # Spelt as the index that finds them.
        words = self.known().filter(Q(leaving=True) | Q(kept_until__isnull=False))
        left = Case(When(leaving=True, then=F("left_at")), default=F("kept_until") - RESTART_TIME)
        lately = words.annotate(said=ExpressionWrapper(left, DateTimeField())).filter(said__gte=ago(span))
        counted = lately.aggregate(number=Count("pk"), first=Min("said"))
        return counted["number"], counted["first"]

    def are_leaving_in_crowds(self) -> bool:
        """Whether so many nodes say that they leave that it takes their silence, too, to believe it."""
        leaving = self.known().filter(leaving=True).count()
        return bool(leaving) and hearing.too_many(self.known().count(), leaving)

    def lookalikes(self) -> NodeQuerySet:
        """Known nodes that are called as another known one, but for what the eye passes over."""
        known = nodestore.Node.objects.known().order_by()
        shared = known.exclude(likeness=None).values("likeness").annotate(Count("pk")).filter(pk__count__gt=1)
        return self.known().filter(likeness__in=shared.values("likeness"))

    def with_state(self) -> NodeQuerySet:
        """Each with its `state` (alive, silent or lost), `silence`, how long ago it was last heard, and its `intake`: open, or
        why it gets nothing new (draining, cordoned, leaving, restarting or flapping).
        """
        silent = When(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2), then=Value("silent"))
        lost = When(heartbeat__isnull=True, then=Value("lost"))
        silence = ExpressionWrapper(Now() - F("heartbeat__seen_at"), DurationField())
        found: NodeQuerySet = self.annotate(
            state=Case(lost, silent, default=Value("alive")), silence=silence, intake=intake()
        )
        return found

    def heartbeat(
        self, name: str, *, last_change: int, node_type: int = 0, client_ip: str | None = None, declared: str = ""
    ) -> bool:
        """Note that the node lives, and say whether it is up to date. Raises TooManyNames."""
        report = Report(name, last_change, node_type, client_ip, declared)
        beat = nodestore.Heartbeat.objects.beat(name, last_change, node_type, client_ip)
        while beat is None:
            fresh, _ = self.absent([name])
            if fresh and not newcomers.admit(1):
                raise TooManyNames(TooManyNames.__doc__)
            # None: somebody else has just registered it, or it was lost this moment.
            beat = self._register({name: report}, wait=True).get(name) or nodestore.Heartbeat.objects.beat(
                name, last_change, node_type, client_ip
            )
        for error in self._note_said({name: report}, {name: beat}).values():
            raise error
        return beat.is_current(last_change)

    def heartbeats(self, reports: Sequence[Report]) -> list[Beat | Exception | None]:
        """Note in a few statements that these nodes live, and return what is known of each, or what is wrong with it.

        What is wrong with one is no other's. An exception is TooManyNames for a name that is one too many, or what the
        database says of a report that it can't take. None: the heartbeat must be told alone, since somebody else holds its
        row or registers it just now, or since the node is here twice.
        """
        told = {report.name: report for report in reports}
        beats, wrong = apart(nodestore.Heartbeat.objects.beat_together, told)
        missing = told.keys() - beats.keys() - wrong.keys()
        if missing:
            fresh, lost = self.absent(missing)
            # It was answered before the node was lost. That must not bring it back: its process may have been stopped for long.
            late = {name for name in fresh | lost if told[name].age}
            wrong |= {name: UnknownNode(UnknownNode.__doc__) for name in late}
            fresh, lost = fresh - late, lost - late
            admitted = sorted(fresh)[: newcomers.admit(len(fresh))] if fresh else []
            wrong |= {name: TooManyNames(TooManyNames.__doc__) for name in fresh.difference(admitted)}
            arrived, odd = apart(self._register, {name: told[name] for name in (*lost, *admitted)})
            beats, wrong = beats | arrived, wrong | odd
        outcomes = beats | wrong | self._note_said(told, beats)
        return [outcomes.get(report.name) if told[report.name] is report else None for report in reports]

    def _note_said(self, told: Mapping[str, Report], beats: Mapping[str, Beat]) -> dict[str, Exception]:
        """Note what these reports say beside that the nodes live. Returns what is wrong with some of them."""
        restarted, declared = {}, {}
        for name, beat in beats.items():
            report = told[name]
            if beat.is_late:
                continue
            if report.last_change == 0 and (beat.acknowledged_before > 0 or beat.said_goodbye):
                restarted[name] = beat
            if report.last_change != EXTRA_HEARTBEAT and report.declared != beat.declared:
                declared[name] = report.declared
            # A report of 0 is a fresh start's, and a node may start where it was before.
            if beat.rival and report.last_change != 0:
                nodestore.NodeEvent.objects.note_addresses(name, {str(report.client_ip), beat.rival})
        _, wrong = apart(self._note_restarts, restarted)
        return wrong | apart(self._note_declarations, declared)[1]

    @transaction.atomic
    def goodbye(self, name: str, kind: str) -> None:
        """A node says that it is `leaving` or `restarting`. `leaving` is final: a later `restarting` changes nothing.

        Anybody with the token can say it in any node's name. So it changes nothing when the last one was void, when it comes
        again and again, or when a node says that it restarts that has been silent for a while: it would be kept however dead.
        Raises UnknownNode.
        """
        node = self.known().filter(name=name)
        if not node.exists():
            raise UnknownNode(f"node {name} is unknown")
        if why := self._disbelief(name):
            log.info("goodbye_ignored", node=name, said=kind, reason=why)
            return
        staying = node.filter(leaving=False)
        if kind == nodestore.NodeEvent.Kind.LEAVING:
            changed = staying.update(leaving=True, left_at=Now(), kept_until=None)
        else:
            heard = staying.filter(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
            changed = heard.exclude(kept_until__gte=Now()).update(kept_until=Now() + RESTART_TIME)
        if changed:
            nodestore.NodeEvent.objects.note([name], kind)
            node_changed.send(sender=self.model, names=[name])

    def _disbelief(self, name: str) -> str:
        """Why a goodbye of the node is not believed; empty when it is."""
        kinds = nodestore.NodeEvent.Kind
        said = nodestore.NodeEvent.objects.filter(node_name=name)
        if said.filter(kind=kinds.GOODBYE_VOID, time__gte=ago(BROKEN_WORD)).exists():
            return "the last one was void"
        lately = said.filter(kind__in=(kinds.LEAVING, kinds.RESTARTING), time__gte=ago(GOODBYES_SPAN))
        return "it comes again and again" if lately.count() >= GOODBYES else ""

    @transaction.atomic
    def void_goodbyes(self) -> list[str]:
        """Take nodes for staying that said goodbye and still report long after it. Returns their names.

        One that never had a config can't show that it started anew, so of one that said that it restarts it is not asked.
        """
        self.filter(leaving=True, left_at=None).update(left_at=Now())  # said to a replica of an older release
        stays = Q(leaving=False, kept_until__lt=F("heartbeat__seen_at"), heartbeat__acknowledged__gt=0)
        if conf.GOODBYE_HOLDS:
            stays |= Q(leaving=True, left_at__lt=F("heartbeat__seen_at") - conf.GOODBYE_HOLDS)
        said = self.filter(Q(leaving=True) | Q(kept_until__isnull=False))
        # In the order of the key, as every change of the map locks them.
        staying = said.filter(stays).order_by("pk").select_for_update(no_key=True, of=("self",))
        found = dict(staying.values_list("pk", "name"))
        if found:
            self.filter(pk__in=found).update(**READMITTED)
            nodestore.NodeEvent.objects.note(found.values(), nodestore.NodeEvent.Kind.GOODBYE_VOID, "it still reports")
            log.warning("goodbye_void", nodes=list(found.values())[:10], number=len(found))
            node_arrived.send(sender=self.model, names=list(found.values()))
        return list(found.values())

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
            if names and schedulable:
                node_arrived.send(sender=self.model, names=names)
            if names and draining:
                node_changed.send(sender=self.model, names=names)
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
        """Delete those that are lost. Returns how many. One that somebody revives at this moment stays."""
        lost = self.lost().filter(assignments__isnull=True)
        return batches.delete(lost.order_by("pk"), most=most, cascades=True)

    def prune(self, most: float = batches.MOST) -> int:
        """Forget nodes that have been lost for longer than the retention, and of very many those lost for longest.

        Returns how many.
        """
        old = Q(lost_at__lt=ago(conf.LOST_NODE_RETENTION))
        surplus = self.filter(lost_at__isnull=False).order_by("-lost_at").values_list("lost_at", flat=True)
        for eldest in surplus[MOST_LOST : MOST_LOST + 1]:
            old |= Q(lost_at__lte=eldest)
        return self.filter(old).forget(most)


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
        if not rules:
            # Nearly always nothing is left to do then, for very many.
            nodes = nodes.exclude(labels={}, weight=1.0, max_configs=None)
        for node in nodes.select_related("heartbeat"):
            beat = node.heartbeat
            mine = [rule for rule in rules if rule.covers(node.name, beat.client_ip, beat.node_type)]
            if node.obey(mine):
                changed.append(node)
        return changed
