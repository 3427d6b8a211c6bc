"""Alerts about what people ordered: pins, pauses, isolations and freezes."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet

from checks.explain.alerts.kinds import NAMED, Alert, Kind, Target, configs_of, some
from checks.models import Assignment, Config
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin
from checks.models.troubles import MOST_CHARACTERS
from checks.wire.scrub import scrub
from clusteragent.lib.clock import ago
from clusteragent.lib.words import agreeing
from nodes.models import Node

# A pass runs each second and resumes the pauses that are over.
LATE_RESUMING = timedelta(seconds=10)


def of_orders(now: datetime) -> Iterator[Alert]:
    """What came of orders that needs somebody, and freezes."""
    back = Assignment.objects.withdrawn()
    count, since = back.aggregate(count=Count("pk"), since=Min("since")).values()
    if count:
        nodes = some(back.order_by("node__name").values_list("node__name", flat=True).distinct()[: NAMED + 1])
        titles = some(map(str, Config.objects.filter(assignment__in=back).order_by("pk")[: NAMED + 1]))
        cause = (
            f"{titles}: could not be moved, since {nodes} reports, but does not say that it stopped what no two nodes may"
            " run. Maybe it runs it, maybe nobody does."
        )
        target = Target.rows(Config, node=str(back.values_list("node", flat=True)[0]))
        yield Alert(Kind.WITHDRAWN, count, cause, target, now, since)
    alone = Isolation.objects.filter(reason=Isolation.Reason.QUARANTINED, config__isnull=False)
    count, since = alone.aggregate(count=Count("pk"), since=Min("time")).values()
    if count:
        cause = f"{configs_of(alone, count)}: alone on a node, because the nodes that ran it died."
        yield Alert(Kind.QUARANTINED, count, cause, Target.rows(Config, order="isolated"), now, since)
    if astray := _astray():
        aims, count = some(str(pin) for pin, _ in astray), sum(number for _, number in astray)
        they = agreeing(count, "it runs elsewhere or waits", "they run elsewhere or wait")
        cause = f"{configs_of(pins_astray(), count)}: pinned to {aims}, and there is no such node now, so {they}."
        yield Alert(Kind.PIN_ASTRAY, count, cause, Target.rows(Config, order="astray"), now)
    overdue = Pause.objects.filter(until__lt=ago(LATE_RESUMING), config__isnull=False)
    count, since = overdue.aggregate(count=Count("pk"), since=Min("until")).values()
    if count:
        cause = f"{configs_of(overdue, count)}: the pause is over, but it was not resumed."
        yield Alert(Kind.PAUSE_OVERDUE, count, cause, Target.rows(Config, order="paused"), now, since)
    for freeze in Freeze.objects.in_force():
        note = f" ({scrub(freeze.note)[:MOST_CHARACTERS]})" if freeze.note else ""
        cause = f"Nothing is balanced automatically: {freeze}{note}."
        yield Alert(Kind.FROZEN, 1, cause, Target.row(freeze), now, freeze.time)


def pins_astray() -> QuerySet[Pin]:
    """Return the pins in force that match no known node."""
    aims = Q(pk__in=[])
    for pin, _ in _astray():
        aims |= Q(kind=pin.kind, aim=pin.aim)
    found: QuerySet[Pin] = Pin.objects.in_force().filter(aims, config__isnull=False)
    return found


def _astray() -> list[tuple[Pin, int]]:
    """The aims of pins that match no known node, each as an unsaved Pin, with the number of pins that have it."""
    pins = Pin.objects.in_force().filter(config__isnull=False).order_by("aim").values_list("kind", "aim")
    aims = [(Pin(kind=kind, aim=aim), number) for kind, aim, number in pins.annotate(Count("pk"))]
    nodes = dict(Node.objects.known().values_list("name", "labels")) if aims else {}
    return [
        (pin, number)
        for pin, number in aims
        if pin.aim not in nodes and not any(pin.matches(name, labels) for name, labels in nodes.items())
    ]
