"""Orders: pins, pauses, isolations and rules, of operators, and of sources that say where their configs run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import connection, models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

from checks.models.handovers import Promise
from checks.wire.sharding import parent_of
from clusteragent.lib import conf
from clusteragent.lib.patterns import fits, overlap
from clusteragent.lib.scrub import scrub
from nodes.models import validate_labels
from nodes.models.words import validate_words


class OrderQuerySet(models.QuerySet[Any]):
    """Queries of orders."""

    def of(self, ids: Collection[int]) -> Self:
        """Orders of the configs with these ids."""
        # Usually there are no orders, and a query with a thousand ids takes longer than exists().
        return self.filter(config_id__in=ids) if ids and self.exists() else self.none()

    def waiting_for(self, keys: Iterable[tuple[str, str]]) -> Self:
        """Orders without a config for these origins (source, key), for the configs they were cut from, or for their shards.

        The result may contain orders of other origins, since sources and keys are matched separately.
        """
        if not self.filter(config=None).exists():
            return self.none()
        wanted = {(source, parent_of(key)) for source, key in keys}
        parent = Func(
            F("key"), Value("#[0-9]+$"), Value(""), function="regexp_replace", output_field=models.TextField()
        )
        return (
            self.filter(config=None, source__in={source for source, _ in wanted})
            .alias(parent=parent)
            .filter(parent__in={key for _, key in wanted})
        )

    def end(self) -> None:
        """End these orders: whose end may be over end now, so that a pass does what that needs, and others are deleted."""
        self.delete()

    def detach(self, ids: Collection[int]) -> None:
        """Keep the orders of configs that are removed: they wait until the origins send a config again."""
        if self.exists():
            self.filter(config_id__in=ids).update(config=None)


class Order(models.Model):
    """An order for a config. It belongs to the config's origin, so it stays while that sends nothing.

    from_source: the source of the origin made it, for the object that the author names, and keeps it as that says. plan: the
    number of the plan that gave it; None for one that had none, or that an older version gave. bounded: given by somebody who is
    bound to some checks; it holds until another source sends the config, too.
    """

    config = models.OneToOneField("checks.Config", models.SET_NULL, null=True, related_name="%(class)s")
    config_id: int | None
    source = models.CharField(max_length=253)
    key = models.TextField()
    author = models.CharField(max_length=253, blank=True)
    note = models.TextField(blank=True)
    time = models.DateTimeField(db_default=Now())
    from_source = models.BooleanField(default=False, db_default=False, editable=False)
    # No foreign key: plans are pruned, orders stay.
    plan = models.BigIntegerField(null=True, editable=False)
    bounded = models.BooleanField(default=False, db_default=False, editable=False)

    objects: ClassVar[Any] = OrderQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["id"]

    def __str__(self) -> str:
        return scrub(f"{self.source}:{self.key}")


class TimedOrderQuerySet(OrderQuerySet):
    """Queries of orders that may end at a time."""

    def in_force(self) -> Self:
        """Orders without an end, or whose end is not over."""
        return self.filter(Q(until=None) | Q(until__gte=Now()))

    def over(self) -> Self:
        """Orders whose end is over."""
        return self.filter(until__lt=Now())

    def end(self) -> None:
        self.in_force().update(until=Now())


class Pin(Order):
    """The nodes on which a config should run. While none of them accepts it, it runs elsewhere, or waits."""

    class Kind(models.TextChoices):
        """How `aim` selects nodes."""

        NODE = "node", "the node"
        PATTERN = "pattern", "nodes whose names match"
        LABEL = "label", "nodes with the label"

    kind = models.CharField(max_length=8, choices=Kind, default=Kind.NODE)
    aim = models.CharField(max_length=253, help_text="ash, or runner-*, or zone=a")
    waits = models.BooleanField(
        default=False, help_text="Dangle while no such node accepts it, instead of running elsewhere."
    )
    until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = TimedOrderQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.aim}"

    def clean(self) -> None:
        if self.kind == self.Kind.LABEL and "=" not in self.aim:
            raise ValidationError({"aim": "a label is written as zone=a"})

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether it selects a node with this name and these labels."""
        if self.kind == self.Kind.LABEL:
            label, _, value = self.aim.partition("=")
            return labels.get(label) == value
        return name == self.aim if self.kind == self.Kind.NODE else fits(name, self.aim)


# All chunks of an order without a plan are written within this time of each other.
CHUNKS = timedelta(minutes=2)


class PauseQuerySet(TimedOrderQuerySet):
    """Queries of pauses."""

    def given_with(self, pauses: Iterable[Pause]) -> Self:
        """The pauses of people that one order gave with one of these: those of its plan.

        Of pauses without a plan: those that have its author, note, end and time (within CHUNKS).
        """
        pauses = [one for one in pauses if not one.from_source]
        alike = [Q(plan__in={one.plan for one in pauses if one.plan is not None})]
        given = [one for one in pauses if one.plan is None]
        orders = {(one.author, one.note, one.until, one.time.replace(second=0, microsecond=0)) for one in given}
        alike += [
            Q(plan=None, author=author, note=note, until=until, time__range=(time - CHUNKS, time + 2 * CHUNKS))
            for author, note, until, time in orders
        ]
        return self.filter(reduce(or_, alike), config__isnull=False, from_source=False)


class Pause(Order):
    """A config that runs nowhere and does not dangle: until `until`, or until someone resumes it."""

    until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = PauseQuerySet.as_manager()


class Isolation(Order):
    """A config that is alone on its node until it is released."""

    class Reason(models.TextChoices):
        """Who isolated it: an operator, or the quarantine."""

        ISOLATED = "isolated", "someone isolated it"
        QUARANTINED = "quarantined", "the nodes that ran it died"

    reason = models.CharField(max_length=16, choices=Reason, default=Reason.ISOLATED)


def patterns_of(text: str) -> list[str]:
    """The patterns of checks in a text, which commas and blanks part."""
    return text.replace(",", " ").split()


class RuleManager(models.Manager["Rule"]):
    """Queries of rules."""

    # Not the ORM: whole rows of two tables, whatever columns they get, in one statement, since each pass asks.
    _RULES = """
        SELECT (SELECT array_agg(r::text ORDER BY id) FROM checks_rule AS r),
            (SELECT array_agg(r::text ORDER BY id) FROM nodes_noderule AS r),
            (SELECT array_agg((id, drain_by)::text ORDER BY id) FROM nodes_node WHERE draining)
    """

    def fingerprint(self) -> str:
        """Return a hash of all rules about configs and nodes, of options that say where configs run, and of drains."""
        with connection.cursor() as cursor:
            cursor.execute(self._RULES)
            rules = cursor.fetchone()
        options = sorted(conf.RUNNER_GROUPS.items()), conf.PLACEMENT_PREFER, conf.DOMAIN_LABEL
        return hashlib.sha256(repr((rules, options)).encode()).hexdigest()


class Rule(models.Model):
    """Which nodes may run the configs that it covers, how many of them each node may have, and what they are spread over.

    apart_from: patterns of checks that its configs are never together with on a node, or in a domain.
    together_with: patterns of checks beside which its configs are placed where the load allows it.
    """

    name = models.CharField(max_length=253, unique=True, validators=[validate_words])
    check_pattern = models.CharField(
        "checks", max_length=253, default="*", validators=[validate_words], help_text="Names, with * and ?: postgres*"
    )
    source_pattern = models.CharField(
        "origins", max_length=253, default="*", validators=[validate_words], help_text="With * and ?: file:postgres.d/*"
    )
    required = models.JSONField(
        "required labels", default=dict, blank=True, validators=[validate_labels], help_text='{"zone": "a"}'
    )
    forbidden = models.JSONField(
        "forbidden labels", default=dict, blank=True, validators=[validate_labels], help_text='{"disk": "slow"}'
    )
    max_per_node = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    spread = models.BooleanField(
        "spread over domains", default=False, db_default=False, help_text="As evenly as room allows, by failure domain."
    )
    apart_from = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        validators=[validate_words],
        help_text="Checks, with * and ?: postgres*, mysql",
    )
    apart_by_domain = models.BooleanField(
        default=False, db_default=False, help_text="Apart in a whole failure domain, not just on a node."
    )
    together_with = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        db_default="",
        validators=[validate_words],
        help_text="Checks beside which it prefers to be: redisdb",
    )
    # How its configs are handed over when they move; empty: as CLUSTERAGENT_HANDOVER says.
    handover = models.CharField("hand-over", max_length=8, choices=Promise, blank=True, default="", db_default="")
    author = models.CharField(max_length=253, blank=True, editable=False)
    note = models.TextField(blank=True)
    time: models.DateTimeField[datetime, datetime] = models.DateTimeField(db_default=Now(), editable=False)

    objects = RuleManager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ValidationError for a name that shows a secret, which all would read, and if a rule keeps its configs apart from
        checks that this or another one places them beside.
        """
        if scrub(self.name) != self.name:
            raise ValidationError({"name": "It shows a secret, and everybody reads it: call it otherwise."})
        for other in (self, *Rule.objects.exclude(pk=self.pk).order_by("name")):
            for one, two in ((self, other), (other, self)):
                apart = next(filter(one.joins, patterns_of(two.apart_from)), "")
                apart = apart or next(filter(two.is_apart_from, patterns_of(one.together_with)), "")
                if (
                    apart
                    and overlap(one.check_pattern, two.check_pattern)
                    and overlap(one.source_pattern, two.source_pattern)
                ):
                    parting = "it" if two is self else f"rule {two}"
                    joining = "it" if one is self else f"rule {one}"
                    raise ValidationError(f"{parting} keeps configs apart from {apart}, and {joining} together with it")

    def joins(self, check: str) -> bool:
        """Whether it prefers nodes that have configs of this check."""
        return any(fits(check, pattern) for pattern in patterns_of(self.together_with))

    def is_apart_from(self, check: str) -> bool:
        """Whether it keeps its configs apart from those of this check."""
        return any(fits(check, pattern) for pattern in patterns_of(self.apart_from))

    def covers(self, check: str, origins: Collection[str]) -> bool:
        """Return whether it covers a config of this check that one of these origins (`source:key`) sends."""
        return fits(check, self.check_pattern) and (
            self.source_pattern == "*" or any(fits(origin, self.source_pattern) for origin in origins)
        )


ORDERS: tuple[type[Order], ...] = (Pin, Pause, Isolation)
